"""Heat map, joint sets, dose response and LN ledger: request -> view, on the device thread."""

import math
import time
from collections.abc import Iterator

from analysis import effects as ablations
from analysis import ledger as books
from analysis import lens as lenses
from analysis.effects import Heatmap
from analysis.progress import Progress, whole
from analysis.types import InputError
from app.core import answer as core
from app.core import to_view as core_to_view
from app.core.answer import Run, baseline_of, last_layer, position_in, prompt_ids, provenance
from app.core.null_space import null_space
from app.core.plain import number
from app.core.residency.resident import Resident
from app.effects import to_view
from app.effects.request import DoseRequest, HeatmapRequest, JointRequest, LedgerRequest, LensRequest
from app.effects.view import DoseView, HeatmapView, JointView, LedgerView, LensLayerView, LensView, Marked

SHOWN_EVERY = 0.25


def _heatmap_parts(resident: Resident, request: HeatmapRequest) -> Iterator[tuple[Run, Heatmap]]:
    """The same heat map again after every block, each time with more in it."""
    run = core.run(resident, request)
    if resident.unigram is None and (request.part == "frequency_mediated" or request.metric == "d_kl_unigram"):
        raise InputError(
            f"{resident.key} has no token counts.", code="no_counts", hint="Choose another metric or part."
        )
    if request.part == "mlp_norm" and resident.model.readout.post_norm is None:
        raise InputError(
            f"{resident.key} has no norm behind its MLP.", code="no_norm_behind_mlp", hint="Choose another part."
        )
    baseline = baseline_of(resident, request.baseline, run.trace)
    chosen = last_layer(resident, request.neurons)
    n_neurons = resident.model.d_mlp if chosen is None else len(chosen)
    resident.memory.admit(4 * n_neurons * len(run.ids), "The heat map")
    for so_far in ablations.heatmap(
        run.engine,
        run.trace.last,
        run.ids,
        metric=request.metric,
        part=request.part,
        baseline=baseline,
        neurons=chosen,
    ):
        yield run, so_far


def _heatmap_view(resident: Resident, request: HeatmapRequest, run: Run, so_far: Heatmap) -> HeatmapView:
    return HeatmapView(
        tokens=core_to_view.tokens(resident.model, run.ids),
        metric=request.metric,
        part=request.part,
        total=len(so_far.neurons),
        rows=to_view.heat_rows(so_far, resident.model.last_layer, request.sort, request.limit),
        done=so_far.done,
        cells=so_far.cells,
        ln_scale=run.ln_scale,
        provenance=provenance("heatmap", resident, run.ids, request, request.baseline),
    )


def heatmap(resident: Resident, request: HeatmapRequest) -> Iterator[HeatmapView | int]:
    """The whole heat map: cells done, and the view as the last item."""
    for run, so_far in _heatmap_parts(resident, request):  # noqa: B007, the last one is the whole
        yield so_far.done
    yield _heatmap_view(resident, request, run, so_far)


def heatmap_views(resident: Resident, request: HeatmapRequest) -> Iterator[HeatmapView | None]:
    """What there is, every quarter of a second, and in the end the whole."""
    drawn = -math.inf
    for run, so_far in _heatmap_parts(resident, request):
        if (now := time.monotonic()) - drawn > SHOWN_EVERY:
            drawn = now
            yield _heatmap_view(resident, request, run, so_far)
        else:
            yield None
    yield _heatmap_view(resident, request, run, so_far)


def joint(resident: Resident, request: JointRequest) -> JointView:
    """A set together and one by one."""
    run = core.run(resident, request)
    position = position_in(request, run.ids)
    neurons = last_layer(resident, _once(request.neurons))
    assert neurons is not None
    baseline = baseline_of(resident, request.baseline, run.trace)
    result = ablations.joint(run.engine, run.trace.last, run.ids, position, neurons, baseline=baseline)
    return JointView.model_validate(
        {
            **to_view.joint(result, resident.model.last_layer),
            "clean": core_to_view.position(resident.model, run.trace, position),
            "ln_scale": run.ln_scale,
            "provenance": provenance("joint", resident, run.ids, request, request.baseline),
        }
    )


def _once(neurons: list[str]) -> list[str]:
    if len(set(neurons)) != len(neurons):
        raise InputError("A neuron is in the set twice.", code="duplicate_neuron", hint="Name each neuron once.")
    return neurons


def dose(resident: Resident, request: DoseRequest) -> DoseView:
    """The set clamped from `low` to `high`."""
    run = core.run(resident, request)
    position = position_in(request, run.ids)
    neurons = last_layer(resident, _once(request.neurons))
    assert neurons is not None
    activations = run.trace.last.activations[:, neurons]
    low = float(activations.min()) if request.low is None else request.low
    high = float(activations.max()) if request.high is None else request.high
    if not low < high:
        raise InputError(f"The doses run from {low:g} to {high:g}.", code="empty_range", hint="Give low below high.")
    doses = ablations.doses(low, high, request.steps)
    result = ablations.dose_response(run.engine, run.trace.last, run.ids, position, neurons, doses)
    means = resident.last_means
    return DoseView(
        rows=to_view.dose_rows(result, resident.model, position),
        neurons=[
            Marked(
                neuron=f"{resident.model.last_layer}.{index}",
                activation=float(activations[position, i]),
                mean=None if means is None else number(means[index]),
                low=float(activations[:, i].min()),
                high=float(activations[:, i].max()),
            )
            for i, index in enumerate(neurons)
        ],
        clean=core_to_view.position(resident.model, run.trace, position),
        ln_scale=run.ln_scale,
        provenance=provenance("dose", resident, run.ids, request),
    )


LENS_STEP = 8  # readings between two views


def lens(resident: Resident, request: LensRequest) -> Iterator[LensView | Progress]:
    """The prompt read out behind every block: how far it is, then the view."""
    return whole(lens_views(resident, request))


def lens_views(resident: Resident, request: LensRequest) -> Iterator[LensView | Progress]:
    """The same with more layers each time."""
    model, ids = resident.model, prompt_ids(resident, request)
    resident.admit(len(ids), rows=2, extra=lenses.held_bytes(model, len(ids)))
    layers: list[LensLayerView] = []
    total = 2 * model.n_layers + 1
    for layer in lenses.lens(model, ids, scale=request.scale, of=request.of, top_k=request.top_k):
        layers.append(to_view.lens_layer(model, layer))
        if len(layers) % LENS_STEP == 0 or len(layers) == total:
            view = LensView(
                tokens=core_to_view.tokens(model, ids),
                scale=request.scale,
                of=request.of,
                layers=list(layers),
                provenance=provenance("lens", resident, ids, request),
            )
            sentence = to_view.lens_sentence(view, model.readout.d_vocab) if len(layers) == total else ""
            yield view.model_copy(update={"sentence": sentence})
        yield Progress("layers", len(layers), total)


def ledger(resident: Resident, request: LedgerRequest) -> Iterator[Progress | LedgerView]:
    """What the LN scale at one token is made of. The spectrum comes first, where the model has none yet."""
    model, ids = resident.model, prompt_ids(resident, request)
    resident.admit(len(ids), rows=2, extra=books.held_bytes(model, len(ids)))
    position = position_in(request, ids)
    spectrum = yield from resident.spectrum_in_steps()
    k = spectrum.chosen(request.k)
    book = books.ledger(model, ids, position, null_basis=spectrum.basis(k))
    assert book.null_total is not None
    yield LedgerView(
        rows=to_view.ledger_rows(book),
        neurons=to_view.ledger_neurons(book, model.last_layer, request.limit),
        total=book.scale**2,
        eps=book.eps,
        remainder=book.remainder,
        null_total=book.null_total,
        k=k,
        null_space=null_space(spectrum),
        clean=core_to_view.position(model, core.clean_trace(resident, ids), position),
        provenance=provenance("ledger", resident, ids, request),
    )
