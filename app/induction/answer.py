"""Induction requests -> views. Each answer is a generator: progress after every batch, the view last.

They run on the device thread a step at a time (`app.core.run_steps`), so that other requests go in between.
"""

from collections.abc import Generator, Sequence
from itertools import islice

from pydantic import BaseModel

from analysis import nullspace
from analysis.attention import check_head
from analysis.induction import clipped, curves, head_study, heads, natural, sequences
from analysis.induction.attribution import attribute
from analysis.induction.differences import Differences, differences
from analysis.induction.measure import measure
from analysis.induction.sequences import Repeated
from analysis.progress import Progress, Steps
from analysis.types import HeadId, NeuronId, NotReadyError
from app.core import limits, weights_rows
from app.core import to_view as core_to_view
from app.core.answer import request_hash
from app.core.residency import means
from app.core.residency.atlas_context import AtlasSource
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.view import Provenance
from app.induction import to_view
from app.induction import view as views
from app.induction.request import (
    AttributionRequest,
    HeadAblationRequest,
    HeadsRequest,
    InductionRequest,
    NaturalRequest,
)
from app.induction.rows import built, own_rows, sample_rows, shorter

NATURAL = Kind("natural repeats", "analysis.induction")
RHO = Kind("rho", "analysis.nullspace")

Answer = Generator[Progress | BaseModel, None, None]
"""Progress items, and the view as the last one."""


def induction(resident: Resident, request: InductionRequest, *, on: AtlasSource | None = None) -> Answer:
    """Curves, ranking and clipped ablation of one set of rows; the atlas' labels where it has been computed."""
    model = resident.model
    repeat, view = built(resident, request)
    watched = neuron_ids([*request.neurons, *request.clip])
    check_neurons(resident, watched)
    measured = yield from measure(model, repeat.tokens, neurons=watched, unigram=resident.unigram)
    found = differences(model.readout, measured.activations, repeat)
    on_natural, n_passages = yield from _natural_differences(resident)
    metric = curves.metric_curves(measured.metrics)
    activation = {str(neuron): curves.curve(values) for neuron, values in measured.watched.items()}
    clip = None
    if request.clip:
        chosen = neuron_ids(request.clip)
        cut = clipped.clip(model, measured, repeat, chosen)
        controls = yield from clipped.controls(
            model, measured, repeat, chosen, n_controls=request.controls, seed=request.seed
        )
        clip = to_view.clip(cut, controls, repeat)
    rho = yield from _rho(resident)
    yield views.InductionView(
        repeat=view,
        curves=to_view.curve_views(metric),
        activations=to_view.curve_views(activation),
        halves=to_view.halves({**metric, **activation}, repeat),
        total=model.d_mlp,
        ranking=to_view.ranking(
            model, found, on_natural, rho, _labels(resident, on), _logit_var(resident, on), request.limit
        ),
        labels_rest_on=None if on is None else weights_rows.resting_on(on.findings),
        passages=n_passages,
        clip=clip,
        provenance=provenance(resident, "induction", request, repeat.tokens.tolist()),
    )


def head_scores(resident: Resident, request: HeadsRequest) -> Answer:
    """The map of heads, and one pattern."""
    model = resident.model
    limits.check_rows(request.n_rows, resident.limits)
    repeat = heads.score_rows(model, n_rows=request.rows, seed=request.seed, length=request.length)
    resident.admit(repeat.tokens.shape[1])
    found = yield from heads.head_scores(model, repeat)
    wanted = request.length or sequences.SCORE_LENGTH
    yield views.HeadsView(
        rows=to_view.head_rows(found),
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        length=repeat.length,
        n_rows=len(repeat.tokens),
        seed=request.seed,
        note=shorter(repeat.length, wanted, resident),
        threshold=heads.INDUCTION_THRESHOLD,
        pattern=_pattern(resident, repeat, request.pattern) if request.pattern else None,
        provenance=provenance(resident, "heads", request, repeat.tokens.tolist()),
    )


def _pattern(resident: Resident, repeat: Repeated, name: str) -> views.PatternView:
    head = HeadId.parse(name)
    found = heads.pattern(resident.model, repeat.tokens[0], head)
    return views.PatternView(
        head=str(head),
        tokens=core_to_view.tokens(resident.model, repeat.tokens[0].tolist()),
        attention=found.tolist(),
        starts=repeat.starts,
        length=repeat.length,
    )


def attribution(resident: Resident, request: AttributionRequest) -> Answer:
    """What drives the neuron."""
    repeat, view = built(resident, request)
    (neuron,) = neuron_ids([request.neuron])
    found = yield from attribute(resident.model, repeat.tokens, neuron)
    yield views.AttributionView(
        neuron=str(neuron),
        repeat=view,
        rows=to_view.part_rows(found, repeat),
        pre=to_view.curve_view(curves.curve(found.pre)),
        residual=float((found.parts.sum(0) - found.pre).abs().max()),
        provenance=provenance(resident, "attribution", request, repeat.tokens.tolist()),
    )


def head_ablation(resident: Resident, request: HeadAblationRequest) -> Answer:
    """Chosen heads against random ones, each query by itself."""
    model = resident.model
    repeat, view = built(resident, request)
    chosen = [check_head(model, HeadId.parse(name)) for name in request.heads]
    neurons = neuron_ids(request.neurons)
    check_neurons(resident, neurons)
    measured = yield from measure(model, repeat.tokens, neurons=neurons, stage="clean run")
    second = range(model.n_ctx)[repeat.copy(1)]
    n_queries = min(request.queries, len(second))
    queries = [second[index * len(second) // n_queries] for index in range(n_queries)]
    study = yield from head_study.study_heads(
        model, measured, queries, chosen, mode=request.mode, n_random=request.random, seed=request.seed
    )
    yield views.HeadAblationView(
        mode=study.mode,
        neurons=list(map(str, neurons)),
        repeat=view,
        queries=queries,
        clean={str(n): to_view.curve_view(curves.curve(values)) for n, values in study.clean.activations.items()},
        rows=[to_view.group_row(study, group) for group in study.groups],
        provenance=provenance(resident, "head_ablation", request, repeat.tokens.tolist()),
    )


def natural_repeats(resident: Resident, request: NaturalRequest) -> Answer:
    """Natural repeats of the sample text or of one's own, aligned."""
    model = resident.model
    limits.check_rows(request.n_rows, resident.limits)
    if request.text is None:
        text, rows = sample_rows(resident)
        source = text.name
    else:
        source, rows = own_rows(resident, request.text)
    passages = list(islice(natural.find(rows, excluded=model.excluded_ids), request.passages))
    chosen = neuron_ids(request.clip)
    if chosen:
        clipped.check_last_layer(model, chosen)
    found = None
    if passages:
        resident.admit(max(len(passage.row) for passage in passages))
        found = yield from natural.natural_repeats(model, passages, neurons=chosen, unigram=resident.unigram)
    yield views.NaturalView(
        source=source,
        searched=len(rows),
        passages=[to_view.passage(model, passage) for passage in passages],
        clean=to_view.aligned(found.clean) if found else None,
        clipped=to_view.aligned(found.clipped) if found and found.clipped else None,
        rules=to_view.rules(found.rules) if found else [],
        provenance=provenance(resident, "natural_repeats", request, [list(passage.row) for passage in passages]),
    )


def _natural_differences(resident: Resident) -> Steps[tuple[Differences | None, int]]:
    """Weighted differences on the sample's natural repeats: no request changes them, so they are kept."""
    try:
        text, rows = sample_rows(resident)
    except NotReadyError:
        return None, 0
    key = resident.key_of(NATURAL, *means.inputs_of(resident.model, text), resident.limits.max_rows)
    if (known := resident.cache.get(key)) is not None:
        kept: tuple[Differences | None, int] = known
        return kept
    found: tuple[Differences | None, int] = None, 0
    passages = list(natural.find(rows, excluded=resident.model.excluded_ids))[: resident.limits.max_rows]
    if passages:
        done = yield from natural.natural_repeats(resident.model, passages)
        found = done.differences, len(passages)
    resident.cache.put(key, found)
    return found


def _rho(resident: Resident) -> Steps[list[float]]:
    rows = resident.model.write_rows(resident.model.last_layer)
    spectrum = yield from resident.spectrum_in_steps()
    return resident.cached(RHO, (spectrum.k,), lambda: nullspace.rho(rows, spectrum.basis(spectrum.k)).tolist())


def _logit_var(resident: Resident, on: AtlasSource | None) -> list[float] | None:
    """Of every last-layer neuron; None where there is no atlas yet."""
    return None if on is None else list(map(float, on.on(resident).atlas.table.logit_var[-1]))


def _labels(resident: Resident, on: AtlasSource | None) -> list[list[str]] | None:
    """What the atlas calls each last-layer neuron, at its default k."""
    if on is None:
        return None
    here = on.on(resident)
    (labels,) = here.neurons(resident.model.last_layer, here.atlas.spectrum.k).labels
    return [[label.name for label in labels if label.holds[index]] for index in range(resident.model.d_mlp)]


def check_neurons(resident: Resident, neurons: Sequence[NeuronId]) -> None:
    limits.check_neurons(len(neurons), resident.limits)
    for neuron in neurons:
        resident.model.check_neuron(neuron)


def neuron_ids(names: Sequence[str]) -> list[NeuronId]:
    """Each neuron once, in the order given."""
    return list(dict.fromkeys(NeuronId.parse(name) for name in names))


def provenance(resident: Resident, kind: str, request: BaseModel, rows: list[list[int]]) -> Provenance:
    """With every row that was run; token_ids: of the first, but for rows that the request's own text decides."""
    ids = rows[0] if rows and kind != "natural_repeats" else []
    return core_to_view.provenance(
        resident,
        ids,
        prepend_bos=None,
        baseline=None,
        request_sha256=request_hash(kind, resident, ids, request),
        rows=rows,
    )
