"""Heat map, joint sets, dose response and LN ledger: request -> view, on the device thread."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis import effects as ablations
from analysis import ledger as books
from analysis import nullspace
from analysis import trace as tracing
from analysis.effects import Block, Condition
from analysis.types import InputError
from app.answers import core
from app.answers.core import Run, baseline_of, last_layer, prompt_ids, provenance
from app.present import core as core_shown
from app.present import effects as shown
from app.present.plain import number
from app.requests.effects import DoseRequest, HeatmapRequest, JointRequest, LedgerRequest
from app.residency.resident import Resident
from app.views.effects import DoseView, HeatmapView, JointView, LedgerView, Marked

CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "total": ("total", "direct"),
    "direct": ("total", "direct"),
    "ln_mediated": ("total", "direct"),
    "ln_only": ("ln_only",),
    "frequency_mediated": ("total", "direct", "frequency"),
}
"""What each part of a heat map is made of; few combinations, since each is compiled by itself."""

SHOWN_EVERY = 0.25


def _position(request: Any, ids: list[int]) -> int:
    return len(ids) - 1 if request.position is None else request.position


def _checked(position: int, ids: list[int]) -> int:
    if position >= len(ids):
        raise InputError(
            f"Position {position} is not in the text.",
            code="position_out_of_range",
            hint=f"Positions run from 0 to {len(ids) - 1}.",
        )
    return position


@dataclass
class HeatmapSoFar:
    """A heat map while it is being computed: cells not reached yet are NaN."""

    resident: Resident
    request: HeatmapRequest
    run: Run
    neurons: list[int]
    values: Float[Tensor, "n pos"]
    done: int = 0

    def add(self, block: Block) -> None:
        """Put one block in its place."""
        where = torch.searchsorted(torch.tensor(self.neurons), block.neurons)
        self.values[where[:, None], block.positions] = _part(block, self.request).T.to(self.values)
        self.done += block.delta.numel()

    def view(self) -> HeatmapView:
        model, request = self.resident.model, self.request
        return HeatmapView(
            tokens=core_shown.tokens(model, self.run.ids),
            metric=request.metric,
            part=request.part,
            total=len(self.neurons),
            rows=shown.heat_rows(self.values, self.neurons, model.last_layer, request.sort, request.limit),
            done=self.done,
            cells=self.values.numel(),
            ln_scale=self.run.ln_scale,
            provenance=provenance("heatmap", self.resident, self.run.ids, request, request.baseline),
        )


def heatmap_parts(resident: Resident, request: HeatmapRequest) -> Iterator[HeatmapSoFar]:
    """The same object again after every block, each time with more in it."""
    run = core.run(resident, request)
    if resident.unigram is None and (request.part == "frequency_mediated" or request.metric == "d_kl_unigram"):
        raise InputError(
            f"{resident.key} has no token counts.", code="no_counts", hint="Choose another metric or part."
        )
    baseline = baseline_of(resident, request.baseline, run.trace)
    chosen = last_layer(resident, request.neurons)
    neurons = list(range(resident.model.d_mlp)) if chosen is None else chosen
    n_bytes = 4 * len(neurons) * len(run.ids)
    resident.memory.admit(n_bytes, "The heat map")
    so_far = HeatmapSoFar(resident, request, run, neurons, torch.full((len(neurons), len(run.ids)), torch.nan))
    yield so_far
    for block in ablations.stream(
        run.engine,
        run.trace.last,
        ablations.next_tokens(run.ids),
        baseline=baseline,
        neurons=chosen,
        conditions=CONDITIONS[request.part],
        ranks=request.part == "frequency_mediated",
    ):
        so_far.add(block)
        yield so_far


def heatmap(resident: Resident, request: HeatmapRequest) -> Iterator[HeatmapView | int]:
    """The whole heat map: cells done, and the view as the last item."""
    for so_far in heatmap_parts(resident, request):
        yield so_far.done
    yield so_far.view()


def heatmap_views(resident: Resident, request: HeatmapRequest) -> Iterator[HeatmapView | None]:
    """What there is, every quarter of a second, and in the end the whole."""
    shown = -math.inf
    for so_far in heatmap_parts(resident, request):
        if (now := time.monotonic()) - shown > SHOWN_EVERY:
            shown = now
            yield so_far.view()
        else:
            yield None
    yield so_far.view()


def _part(block: Block, request: HeatmapRequest) -> Float[Tensor, "pos n"]:
    def values(condition: Condition) -> Tensor:
        found: Tensor = getattr(block.outcomes[condition], request.metric)
        return found

    match request.part:
        case "ln_mediated":
            return values("total") - values("direct")
        case "frequency_mediated":
            return values("total") - values("frequency")
        case "total" | "direct" | "ln_only":
            return values(request.part)


def joint(resident: Resident, request: JointRequest) -> JointView:
    """A set together and one by one."""
    run = core.run(resident, request)
    position = _checked(_position(request, run.ids), run.ids)
    neurons = last_layer(resident, _once(request.neurons))
    assert neurons is not None
    baseline = baseline_of(resident, request.baseline, run.trace)
    result = ablations.joint(run.engine, run.trace.last, run.ids, position, neurons, baseline=baseline)
    return JointView.model_validate(
        {
            **shown.joint(result, resident.model.last_layer),
            "clean": core_shown.position(resident.model, run.trace, position),
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
    position = _checked(_position(request, run.ids), run.ids)
    neurons = last_layer(resident, _once(request.neurons))
    assert neurons is not None
    activations = run.trace.last.activations[:, neurons]
    low = float(activations.min()) if request.low is None else request.low
    high = float(activations.max()) if request.high is None else request.high
    if not low < high:
        raise InputError(f"The doses run from {low:g} to {high:g}.", code="empty_range", hint="Give low below high.")
    doses = torch.linspace(low, high, request.steps, dtype=torch.float64)
    result = ablations.dose_response(run.engine, run.trace.last, run.ids, position, neurons, doses)
    means = resident.last_means
    return DoseView(
        rows=shown.dose_rows(result, resident.model, position),
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
        clean=core_shown.position(resident.model, run.trace, position),
        ln_scale=run.ln_scale,
        provenance=provenance("dose", resident, run.ids, request),
    )


def ledger(resident: Resident, request: LedgerRequest) -> LedgerView:
    """What the LN scale at one token is made of."""
    ids = prompt_ids(resident, request)
    resident.admit(len(ids), rows=2)
    position = _checked(_position(request, ids), ids)
    model = resident.model
    spectrum = resident.memo("spectrum", lambda: nullspace.spectrum(model.readout))
    k = spectrum.chosen(request.k)
    book = books.ledger(model, ids, position, null_basis=spectrum.basis(k))
    assert book.null_total is not None
    return LedgerView(
        rows=shown.ledger_rows(book),
        neurons=shown.ledger_neurons(book, model.last_layer, request.limit),
        total=book.scale**2,
        eps=book.eps,
        remainder=book.remainder,
        null_total=book.null_total,
        k=k,
        clean=core_shown.position(model, tracing.trace(model, ids, unigram=resident.unigram), position),
        provenance=provenance("ledger", resident, ids, request),
    )
