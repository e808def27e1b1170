"""One neuron at work, on the device thread. Each function is one short piece; the sample is taken row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from analysis import neuron_on_text, sinks
from analysis import trace as tracing
from analysis.model import Model
from analysis.progress import Progress
from analysis.trace import LastLayer, Trace
from analysis.types import NeuronId
from app.core import to_view, weights_rows
from app.core.answer import clean_trace, prompt_ids, provenance
from app.core.plain import number, series
from app.core.request import NothingAsked, PromptRequest
from app.core.residency import means
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.sample import sample_rows
from app.neuron.view import ClampPoint, GateCase, Histogram, Live, Moment, Sample

CLAMPS = (None, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
SAMPLE_TOKENS = 4096
ROW_TOKENS = 128
SHOWN, CONTEXT = 5, 14
BINS = 48


def live(resident: Resident, request: PromptRequest, *, neuron: str) -> Iterator[int | Live]:
    """The neuron's activation at each token of a prompt, and what holding it fixed does: passes done, then the view."""
    model = resident.model
    which = model.check_neuron(NeuronId.parse(neuron))
    ids = prompt_ids(resident, request)
    resident.admit(len(ids), rows=2)
    run = clean_trace(resident, ids, [which])
    yield 1
    kind, change = _baseline(resident), _entropy_change(resident, which, run.last, ids)
    clamp: list[ClampPoint] = []
    for value in CLAMPS:
        yield 2 + len(clamp)
        clamp.append(_clamped(resident, run, which, value))
    yield Live(
        tokens=to_view.tokens(model, ids),
        skip=sinks.skipped(model, ids, keep=resident.settings.keep_sinks),
        activation=series(run.activations[which]),
        d_entropy=None if change is None else list(map(number, change)),
        baseline=None if change is None else to_view.baseline_name(kind, resident),
        clamp=clamp,
        gate_cases=_gate_cases(resident, which, run),
        text=request.text or "",
        provenance=provenance(f"neuron {which}", resident, ids, request, kind),
    )


def _baseline(resident: Resident) -> str:
    """The reference mean where there is one, else zero."""
    return "zero" if resident.last_means is None else "mean"


def _entropy_change(resident: Resident, neuron: NeuronId, last: LastLayer, ids: Sequence[int]) -> list[float] | None:
    """By ablating the neuron at each position alone; None below the last layer."""
    if neuron.layer != resident.model.last_layer:
        return None
    changes = neuron_on_text.entropy_changes(resident.engine, last, ids, neuron.index, mean=resident.last_means)
    return cast(list[float], changes.tolist())


def _clamped(resident: Resident, run: Trace, neuron: NeuronId, value: float | None) -> ClampPoint:
    means = neuron_on_text.clamped(resident.model, run, neuron, value, keep_sinks=resident.settings.keep_sinks)
    return ClampPoint(
        value=value,
        ln_scale=means.ln_scale,
        entropy=means.entropy,
        loss=None if means.loss is None else number(means.loss),
        rank=None if means.rank is None else number(means.rank),
    )


def _gate_cases(resident: Resident, neuron: NeuronId, run: Trace) -> list[GateCase] | None:
    """None without a gate."""
    if not resident.model.gated:
        return None
    return [
        GateCase(
            gate="+" if case.gate else "−",
            input="+" if case.input else "−",
            share=case.share,
            mean_activation=None if case.mean_activation is None else number(case.mean_activation),
        )
        for case in neuron_on_text.gate_cases(resident.model, run.token_ids, neuron, run.activations[neuron])
    ]


# the sample


@dataclass(frozen=True)
class RowResult:
    """One row of the sample: what the neuron does at each position."""

    ids: list[int]
    activation: list[float]
    d_entropy: list[float] | None
    baseline: str | None


SAMPLE_STATE = Kind("sample state", "analysis.trace")


def sample_row(resident: Resident, name: str, ids: list[int]) -> RowResult:
    """The neuron on one row; the last layer's part of the row is kept, since every neuron's page asks for it."""
    model = resident.model
    neuron = model.check_neuron(NeuronId.parse(name))
    if neuron.layer != model.last_layer:
        run = tracing.trace(model, ids, neurons=[neuron])
        return RowResult(ids, run.activations[neuron].tolist(), None, None)
    last: LastLayer = resident.cached(SAMPLE_STATE, tuple(ids), lambda: tracing.trace(model, ids).last)
    change = _entropy_change(resident, neuron, last, ids)
    named = to_view.baseline_name(_baseline(resident), resident)
    return RowResult(ids, last.activations[:, neuron.index].tolist(), change, named)


def sample(resident: Resident, request: NothingAsked, *, neuron: str) -> Iterator[Progress | Sample]:
    """The neuron over the whole sample: rows done, then the view."""
    last: Sample | None = None
    for item in sample_so_far(resident, request, neuron=neuron):
        if isinstance(item, Progress):
            yield item
        else:
            last = item
    assert last is not None
    yield last


def sample_so_far(resident: Resident, request: NothingAsked, *, neuron: str) -> Iterator[Progress | Sample]:
    """The same as it comes: after each row what the rows so far say, the last view over all of them."""
    every, rows = sample_rows(resident), list[RowResult]()
    for ids in every:
        rows.append(sample_row(resident, neuron, ids))
        yield sample_view(resident, rows)
        yield Progress("reading the sample", len(rows), len(every))
    if not every:
        yield sample_view(resident, rows)


def sample_view(resident: Resident, rows: Sequence[RowResult]) -> Sample:
    """The extremes and the distribution over all rows, BOS and sinks left out."""
    model, keep = resident.model, resident.settings.keep_sinks
    text = means.text_file(resident.settings, model)
    skips = [sinks.skipped(model, row.ids, keep=keep) for row in rows]
    places = [(r, t) for r, row in enumerate(rows) for t in range(skips[r], len(row.ids))]
    values = np.array([rows[r].activation[t] for r, t in places])
    by_activation = sorted(places, key=lambda at: rows[at[0]].activation[at[1]])
    ablated = bool(rows) and rows[0].d_entropy is not None
    by_change = sorted(places, key=lambda at: (rows[at[0]].d_entropy or [0.0])[at[1]]) if ablated else []

    def moments(order: Sequence[tuple[int, int]]) -> list[Moment]:
        return [_moment(resident.model, rows[r], t) for r, t in order[:SHOWN]]

    return Sample(
        source=text.name if text else "none",
        n_tokens=sum(len(row.ids) for row in rows),
        baseline=rows[0].baseline if rows else None,
        activations=_histogram(values),
        mean=float(values.mean()) if values.size else None,
        most_active=moments(by_activation[::-1]),
        least_active=moments(by_activation),
        raises_entropy=moments(by_change[::-1]),
        lowers_entropy=moments(by_change),
        provenance=weights_rows.source(resident),
    )


def _histogram(values: np.ndarray) -> Histogram | None:
    if not values.size:
        return None
    counts, edges = np.histogram(values, bins=BINS)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _moment(model: Model, row: RowResult, at: int) -> Moment:
    texts = model.token_texts(row.ids)
    start = max(at - CONTEXT, 1 if row.ids[0] == model.bos_id else 0)
    return Moment(
        before="".join(texts[start:at]),
        token=texts[at],
        after="".join(texts[at + 1 : at + 1 + CONTEXT // 2]),
        activation=row.activation[at],
        d_entropy=None if row.d_entropy is None else row.d_entropy[at],
    )
