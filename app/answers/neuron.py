"""One neuron at work, on the device thread. Each function is one short piece; the sample is taken row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis import effects as ablations
from analysis import reference
from analysis import trace as tracing
from analysis.model import Model
from analysis.trace import LastLayer, Trace
from analysis.types import Intervention, NeuronId
from app.answers.core import prompt_ids, provenance
from app.present import atlas as atlas_shown
from app.present import core as shown
from app.present.plain import number, series
from app.requests.core import PromptRequest
from app.residency import means
from app.residency.resident import Resident
from app.views.neuron import ClampPoint, GateCase, Live, Moment, Sample

CLAMPS = (None, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
SAMPLE_TOKENS = 4096
ROW_TOKENS = 128
SHOWN, CONTEXT = 5, 14


def live(resident: Resident, request: PromptRequest, name: str) -> Iterator[int | Live]:
    """The neuron's activation at each token of a prompt, and what holding it fixed does: passes done, then the view."""
    model = resident.model
    neuron = model.check_neuron(NeuronId.parse(name))
    ids = prompt_ids(resident, request)
    resident.admit(len(ids), rows=2)
    run = tracing.trace(model, ids, neurons=[neuron], unigram=resident.unigram)
    yield 1
    kind, baseline = _baseline(resident)
    change = _entropy_change(resident, neuron, run.last, ids, baseline)
    clamp: list[ClampPoint] = []
    for value in CLAMPS:
        yield 2 + len(clamp)
        clamp.append(_clamped(resident, run, neuron, value))
    yield Live(
        tokens=shown.tokens(model, ids),
        skip=1 if ids[0] == model.bos_id and len(ids) > 2 else 0,
        activation=series(run.activations[neuron]),
        d_entropy=None if change is None else series(change),
        baseline=None if change is None else shown.baseline_name(kind, resident),
        clamp=clamp,
        gate_cases=_gate_cases(model, neuron, ids, run.activations[neuron]),
        text=request.text or "",
        provenance=provenance(f"neuron {neuron}", resident, ids, request, kind),
    )


def sample_prompt(resident: Resident) -> PromptRequest:
    """The first row of the sample: what a neuron is shown on where the reader gives no text."""
    rows = sample_rows(resident)
    return PromptRequest(token_ids=rows[0] if rows else [resident.model.bos_id or 0])


def _baseline(resident: Resident) -> tuple[str, Tensor]:
    """The reference mean where there is one, else zero; by name and as values."""
    last = resident.last_means
    if last is not None:
        return "mean", last
    return "zero", torch.zeros(resident.model.d_mlp, device=resident.model.device)


def _entropy_change(
    resident: Resident, neuron: NeuronId, last: LastLayer, ids: Sequence[int], baseline: Tensor
) -> Tensor | None:
    """Entropy with the neuron ablated at each position alone, less the clean one; None below the last layer."""
    if neuron.layer != resident.model.last_layer:
        return None
    blocks = ablations.stream(
        resident.engine,
        last,
        ablations.next_tokens(ids),
        baseline=baseline.to(last.activations),
        neurons=[neuron.index],
        conditions=("total",),
    )
    return torch.cat([block.outcomes["total"].d_entropy[:, 0] for block in blocks])


def _clamped(resident: Resident, run: Trace, neuron: NeuronId, value: float | None) -> ClampPoint:
    model = resident.model
    held = run
    if value is not None:
        held = tracing.intervene(model, run, [Intervention(neuron, "value", value)], unigram=resident.unigram)
    found = held.metrics
    skip = 1 if run.token_ids[0] == model.bos_id and len(run) > 2 else 0
    several = len(run) - skip > 1
    return ClampPoint(
        value=value,
        ln_scale=float(found.ln_scale[skip:].mean()),
        entropy=float(found.entropy[skip:].mean()),
        loss=number(found.loss[skip:-1].mean()) if several else None,
        rank=number(found.rank[skip:-1].double().mean()) if several else None,
    )


def _gate_cases(model: Model, neuron: NeuronId, ids: Sequence[int], activation: Tensor) -> list[GateCase] | None:
    """How often gate and input have which signs on this text, and the mean activation then; None without a gate."""
    if not model.gated:
        return None
    names = [f"blocks.{neuron.layer}.mlp.{hook}" for hook in ("hook_pre", "hook_pre_linear")]
    captured = model.run(model.tokens(ids), capture=names)
    gate, linear = (captured[name][0, :, neuron.index] > 0 for name in names)
    cases = []
    for gate_sign in (True, False):
        for input_sign in (True, False):
            here = (gate == gate_sign) & (linear == input_sign)
            mean = number(activation[here].mean()) if bool(here.any()) else None
            cases.append(
                GateCase(
                    gate="+" if gate_sign else "−",
                    input="+" if input_sign else "−",
                    share=float(here.double().mean()),
                    mean_activation=mean,
                )
            )
    return cases


# the sample


@dataclass(frozen=True)
class RowResult:
    """One row of the sample: what the neuron does at each position."""

    ids: list[int]
    activation: list[float]
    d_entropy: list[float] | None
    baseline: str | None


def sample_rows(resident: Resident) -> list[list[int]]:
    """Rows of the model's sample (else the bundled one's), up to SAMPLE_TOKENS tokens."""

    def build() -> list[list[int]]:
        text = means.text_file(resident.settings, resident.model)
        if text is None or not text.is_file():
            return []
        kept: list[list[int]] = []
        for document in means.read_texts(text):
            length = min(ROW_TOKENS, resident.max_tokens)
            kept += [row for row in reference.rows_of(resident.model, [document], length=length) if len(row) > 8]
            if sum(map(len, kept)) >= SAMPLE_TOKENS:
                break
        return kept

    return resident.memo("atlas-sample-rows", build)


def sample_row(resident: Resident, name: str, ids: list[int], place: int) -> RowResult:
    """The neuron on one row; the last layer's part of the row is kept, since every neuron's page asks for it."""
    model = resident.model
    neuron = model.check_neuron(NeuronId.parse(name))
    kind, baseline = _baseline(resident)
    if neuron.layer != model.last_layer:
        run = tracing.trace(model, ids, neurons=[neuron])
        return RowResult(ids, run.activations[neuron].tolist(), None, None)
    last: LastLayer = resident.memo(f"atlas-sample-{place}", lambda: tracing.trace(model, ids).last)
    change = _entropy_change(resident, neuron, last, ids, baseline)
    assert change is not None
    named = shown.baseline_name(kind, resident)
    return RowResult(ids, last.activations[:, neuron.index].tolist(), change.tolist(), named)


def sample_view(resident: Resident, rows: Sequence[RowResult]) -> Sample:
    """The extremes over all rows, BOS left out."""
    text = means.text_file(resident.settings, resident.model)
    bos = resident.model.bos_id
    places = [(r, t) for r, row in enumerate(rows) for t in range(len(row.ids)) if not (t == 0 and row.ids[0] == bos)]
    by_activation = sorted(places, key=lambda at: rows[at[0]].activation[at[1]])
    ablated = bool(rows) and rows[0].d_entropy is not None
    by_change = sorted(places, key=lambda at: (rows[at[0]].d_entropy or [0.0])[at[1]]) if ablated else []

    def moments(order: Sequence[tuple[int, int]]) -> list[Moment]:
        return [_moment(resident.model, rows[r], t) for r, t in order[:SHOWN]]

    return Sample(
        source=text.name if text else "none",
        n_tokens=sum(len(row.ids) for row in rows),
        baseline=rows[0].baseline if rows else None,
        most_active=moments(by_activation[::-1]),
        least_active=moments(by_activation),
        raises_entropy=moments(by_change[::-1]),
        lowers_entropy=moments(by_change),
        provenance=atlas_shown.source(resident),
    )


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
