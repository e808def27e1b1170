"""Request -> view, on the device thread. Page, API, shell and permalinks all call these functions.

`await caller.run(key, answers.core.trace, request)` gives the view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from analysis import effects as ablations
from analysis import trace as tracing
from analysis.effects import Engine
from analysis.effects.temperature import temperature_share
from analysis.readout import Readout
from analysis.trace import Trace
from analysis.types import Baseline, InputError, Intervention, NeuronId
from app.present import core as shown
from app.present import effects_table as rows
from app.present.plain import series
from app.present.table import Columns, select
from app.requests.canonical import canonical_request, content_hash
from app.requests.core import EffectsRequest, PromptRequest, SwitchedRequest, TraceRequest
from app.requests.limits import check_known, check_prompt, check_tokens, check_trace
from app.residency.resident import Resident
from app.views.core import EffectsView, Provenance, RunView, TokensView, TraceView


def prompt_ids(resident: Resident, request: PromptRequest) -> list[int]:
    """The prompt as token ids, BOS as asked for; InputError when there are none or too many.

    Text gets what the model was trained with unless `prepend_bos` says otherwise; token ids get nothing unless it is
    true. Never two.
    """
    check_prompt(request, resident.limits)
    ids = all_ids(resident, request)
    check_tokens(len(ids), resident.max_tokens)
    return ids


def all_ids(resident: Resident, request: PromptRequest) -> list[int]:
    model = resident.model
    if request.text is not None:
        return model.encode(request.text, prepend_bos=request.prepend_bos)
    assert request.token_ids is not None
    check_known(request.token_ids, model.d_vocab)
    return model.with_bos(request.token_ids, bool(request.prepend_bos))


def count(resident: Resident, request: PromptRequest) -> TokensView:
    """The prompt cut into tokens, however many; for the live count."""
    check_prompt(request, resident.limits)
    ids = all_ids(resident, request)
    return TokensView(n_tokens=len(ids), max_tokens=resident.max_tokens, tokens=shown.tokens(resident.model, ids))


@dataclass(frozen=True)
class Run:
    """A prompt run clean, with readout and engine that fit it. ln_scale: the constant, if the norm is switched off."""

    ids: list[int]
    trace: Trace
    readout: Readout
    engine: Engine
    ln_scale: float | None


def run(resident: Resident, request: SwitchedRequest, *, neurons: Sequence[str] = (), passes: int = 1) -> Run:
    """The clean run of a prompt; `passes`: forward passes in all that the request will need."""
    ids = prompt_ids(resident, request)
    resident.admit(len(ids), rows=passes)
    model, counts = resident.model, resident.unigram
    clean = tracing.trace(model, ids, neurons=list(map(NeuronId.parse, neurons)), unigram=counts)
    if request.ln_scale is None:
        return Run(ids, clean, model.readout, resident.engine, None)
    scale = float(clean.metrics.ln_scale.median()) if request.ln_scale == "median" else request.ln_scale
    readout = model.readout.with_constant_scale(scale)
    engine = resident.engine.without_layer_norm(scale)
    return Run(ids, tracing.read_with(clean, readout, counts), readout, engine, scale)


def trace(resident: Resident, request: TraceRequest) -> TraceView:
    """The prompt run clean and, where interventions are given, intervened."""
    check_trace(request, resident.limits)
    clean = run(resident, request, neurons=request.neurons, passes=2 if request.interventions else 1)
    readout = clean.readout
    interventions = [shown.intervention(item) for item in request.interventions]
    needs_mean = any(item.mode == "mean" for item in interventions if isinstance(item, Intervention))
    means = resident.require_means() if needs_mean else None
    changed = None
    if interventions:
        changed = tracing.intervene(
            resident.model, clean.trace, interventions, unigram=resident.unigram, means=means, readout=readout
        )
    return TraceView(
        tokens=shown.tokens(resident.model, clean.ids),
        clean=_shown(resident, readout, clean.trace, request.top_k),
        intervened=None if changed is None else _shown(resident, readout, changed, request.top_k),
        ln_scale=clean.ln_scale,
        provenance=provenance("trace", resident, clean.ids, request, "mean" if needs_mean else None),
    )


def _shown(resident: Resident, readout: Readout, trace: Trace, top_k: int) -> RunView:
    top = tracing.top_tokens(readout, trace.last.resid, top_k)
    return shown.run(resident.model, trace, top)


def effects(resident: Resident, request: EffectsRequest) -> EffectsView:
    """Every last-layer neuron ablated by itself at one position: filtered, sorted, one page of rows."""
    clean = run(resident, request)
    position = len(clean.ids) - 1 if request.position is None else request.position
    table = ablations.effects(
        clean.engine,
        clean.trace.last,
        clean.ids,
        position,
        baseline=baseline_of(resident, request.baseline, clean.trace),
        neurons=last_layer(resident, request.neurons),
    )
    total, picked, columns = _selected(request, clean, table)
    return EffectsView(
        total=total,
        rows=[rows.row(columns, index, resident.model.last_layer) for index in picked],
        clean=shown.position(resident.model, clean.trace, position),
        ln_scale=clean.ln_scale,
        provenance=provenance("effects", resident, clean.ids, request, request.baseline),
    )


def baseline_of(resident: Resident, baseline: float | str, clean: Trace) -> Float[Tensor, " d_mlp"]:
    """The value that each last-layer neuron is ablated to; NotReadyError while there is no mean."""
    if baseline == "mean":
        resident.require_means()
    return ablations.baseline_values(cast(Baseline, baseline), clean.last.activations, resident.last_means)


def last_layer(resident: Resident, names: Sequence[str] | Literal["all"]) -> list[int] | None:
    """Indices of last-layer neurons, each once; None for all. InputError for another layer: no closed form there."""
    if names == "all":
        return None
    neurons = [resident.model.check_neuron(NeuronId.parse(name)) for name in names]
    for neuron in neurons:
        if neuron.layer != resident.model.last_layer:
            raise InputError(
                f"Neuron {neuron} is not in the last layer.",
                code="not_last_layer",
                hint=f"Effects are exact for layer {resident.model.last_layer}; elsewhere intervene in a trace.",
            )
    return sorted({neuron.index for neuron in neurons})


def _selected(request: EffectsRequest, clean: Run, table: ablations.Effects) -> tuple[int, list[int], Columns]:
    """(rows that pass, indices of this page, all columns). Temperatures are fitted for the rows that need one."""
    every = range(len(table.neurons))
    by_temperature = any("temperature" in name for name in (request.sort, *request.bounds))
    columns = _columns(clean, table, every if by_temperature else ())
    total, picked = select(
        columns,
        bounds=request.bounds,
        sort=request.sort,
        order=request.order,
        offset=request.offset,
        limit=request.limit,
    )
    return total, picked, columns if by_temperature else _columns(clean, table, picked)


def _columns(clean: Run, table: ablations.Effects, fitted: Sequence[int]) -> Columns:
    """Columns with the temperature of the rows `fitted`, null in the others."""
    nothing: list[float | None] = [None] * len(table.neurons)
    found = {name: list(nothing) for name in ("temperature", "share", "left")}
    if len(fitted):
        which = list(fitted)
        neurons = table.neurons[which].tolist()
        fit = temperature_share(clean.engine, clean.trace.last, table.position, neurons, table.delta[which])
        for name, values in (
            ("temperature", fit.temperature),
            ("share", fit.share),
            ("left", (1 - fit.share) * fit.kl),
        ):
            for index, value in zip(which, series(values), strict=True):
                found[name][index] = value
    return rows.columns(table, **found)


def provenance(
    kind: str, resident: Resident, ids: list[int], request: PromptRequest, baseline: str | float | None = None
) -> Provenance:
    """Where an answer about a prompt comes from; None: nothing was ablated."""
    return shown.provenance(
        resident,
        ids,
        prepend_bos=request.prepend_bos,
        baseline=None if baseline is None else shown.baseline_name(baseline, resident),
        request_sha256=request_hash(kind, resident, ids, request),
    )


def request_hash(kind: str, resident: Resident, ids: list[int], request: BaseModel) -> str:
    """The identity of a request on this model; see `app.requests.canonical`."""
    model = resident.model
    return content_hash(canonical_request(kind, model.key, model.weights_sha256, ids, request))
