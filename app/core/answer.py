"""Request -> view, on the device thread. Page, API, shell and permalinks all call these functions.

`await caller.run(key, answers.core.trace, request)` gives the view.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import BaseModel

from analysis import effects as ablations
from analysis import sinks
from analysis import trace as tracing
from analysis.chat import Confidence, Turn
from analysis.effects import Baselines, Engine
from analysis.effects.temperature import temperature_share
from analysis.readout import Readout
from analysis.trace import TopTokens, Trace
from analysis.types import Baseline, InputError, Intervention, NeuronId, check_position
from app.core import effects_table as rows
from app.core import to_view, turns
from app.core.canonical import canonical_request, content_hash
from app.core.limits import check_known, check_prompt, check_tokens, check_trace
from app.core.plain import series
from app.core.question import priced
from app.core.request import EffectsRequest, PromptRequest, SwitchedRequest, TraceRequest, TurnRequest
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.table import Columns, select
from app.core.view import ConfidenceView, EffectsView, Provenance, TokensView, TraceView, TurnView

TRACE = Kind("trace", "analysis.trace")
TOP = Kind("top tokens", "analysis.trace")
EFFECTS = Kind("effects of all", "analysis.effects")
"""Of recent prompts, the table of every last-layer neuron at a position."""


def prompt_ids(resident: Resident, request: PromptRequest) -> list[int]:
    """The prompt as token ids, BOS as asked for; InputError when there are none or too many.

    Text gets what the model was trained with unless `prepend_bos` says otherwise; token ids get nothing unless it is
    true. Never two.
    """
    check_prompt(request, resident.limits)
    ids = all_ids(resident, request)
    try:
        check_tokens(len(ids), resident.max_tokens)
    except InputError as error:
        if request.text is None:
            raise
        fits = len(fitting(resident, request.text, request.prepend_bos))
        hint = f"The first {fits} of its {len(request.text)} characters fit."
        raise InputError(error.message, code=error.code, hint=hint) from None
    return ids


def position_in(request: Any, ids: Sequence[int]) -> int:
    """The request's position, by default the last; InputError where the text has no such one."""
    position = len(ids) - 1 if request.position is None else int(request.position)
    check_position(position, len(ids))
    return position


@priced()
def fitting(resident: Resident, text: str, prepend_bos: bool | None) -> str:
    """The beginning of a text that is not too long here."""
    text = text[: resident.limits.max_characters]
    return resident.model.fitting(text, resident.max_tokens, prepend_bos=prepend_bos)


def all_ids(resident: Resident, request: PromptRequest) -> list[int]:
    model = resident.model
    if request.turns is not None:
        return model.encode(written_as_chat(resident, request.turns, request.opened), prepend_bos=request.prepend_bos)
    if request.text is not None:
        return model.encode(request.text, prepend_bos=request.prepend_bos)
    assert request.token_ids is not None
    check_known(request.token_ids, model.d_vocab)
    return model.with_bos(request.token_ids, bool(request.prepend_bos))


@priced()
def written_as_chat(resident: Resident, turns: Sequence[TurnRequest], opened: bool = False) -> str:
    """Turns as the model's chat template writes them. opened: an answer at their end is not ended."""
    return resident.model.chat.rendered([Turn(turn.role, turn.content) for turn in turns], opened=opened)


@priced()
def conversation(resident: Resident, text: str) -> list[TurnView] | None:
    """The turns of a text as a form offers them; None where the tokenizer has no chat template."""
    chat = resident.model.chat
    said = [TurnView(role=turn.role, content=turn.content) for turn in chat.turns(text)]
    return turns.offered(said) if chat.known else None


def count(resident: Resident, request: PromptRequest) -> TokensView:
    """The prompt cut into tokens, however many; for the live count."""
    check_prompt(request, resident.limits)
    ids = all_ids(resident, request)
    return TokensView(n_tokens=len(ids), max_tokens=resident.max_tokens, tokens=to_view.tokens(resident.model, ids))


@dataclass(frozen=True)
class Run:
    """A prompt run clean, with readout and engine that fit it. ln_scale: the constant, if the norm is switched off."""

    ids: list[int]
    trace: Trace
    readout: Readout
    engine: Engine
    ln_scale: float | None


def clean_trace(resident: Resident, ids: Sequence[int], neurons: Sequence[NeuronId] = ()) -> Trace:
    """A prompt as the model runs it; run once and then kept, so that another token, baseline or panel runs no pass."""
    model, counts = resident.model, resident.unigram
    return resident.cached(
        TRACE,
        (tuple(ids), tuple(sorted(map(str, neurons))), resident.counts_sha256),
        lambda: tracing.trace(model, ids, neurons=neurons, unigram=counts),
    )


def run(resident: Resident, request: SwitchedRequest, *, neurons: Sequence[str] = (), passes: int = 1) -> Run:
    """The clean run of a prompt; `passes`: forward passes in all that the request will need."""
    ids = prompt_ids(resident, request)
    resident.admit(len(ids), rows=passes)
    model, counts = resident.model, resident.unigram
    clean = clean_trace(resident, ids, list(map(NeuronId.parse, neurons)))
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
    interventions = [to_view.intervention(item) for item in request.interventions]
    needs_mean = any(item.mode == "mean" for item in interventions if isinstance(item, Intervention))
    means = resident.require_means() if needs_mean else None
    changed = None
    if interventions:
        changed = tracing.intervene(
            resident.model, clean.trace, interventions, unigram=resident.unigram, means=means, readout=readout
        )
    return TraceView(
        tokens=to_view.tokens(resident.model, clean.ids),
        answer=_answer(resident, clean),
        clean=to_view.run(resident.model, clean.trace, _top(resident, clean, request.top_k)),
        intervened=None
        if changed is None
        else to_view.run(resident.model, changed, tracing.top_tokens(readout, changed.last.resid, request.top_k)),
        ln_scale=clean.ln_scale,
        provenance=provenance("trace", resident, clean.ids, request, "mean" if needs_mean else None),
    )


def _answer(resident: Resident, clean: Run) -> ConfidenceView | None:
    """Of the assistant's turns, where the chat template wrote the text."""
    roles, metrics = resident.model.roles(clean.ids), clean.trace.metrics
    at = [t - 1 for t, role in enumerate(roles) if role == "assistant" and t]
    found = Confidence.of(
        [float(metrics.entropy[t]) for t in at],
        [-float(metrics.loss[t]) for t in at],
        [int(metrics.rank[t]) for t in at],
    )
    return to_view.confidence(found, [t + 1 for t in at])


def _top(resident: Resident, clean: Run, k: int) -> TopTokens:
    """Of a clean run. Kept beside its trace: they take a product with all of ``W_U`` at every position."""
    return resident.cached(
        TOP,
        (tuple(clean.ids), k, clean.ln_scale),
        lambda: tracing.top_tokens(clean.readout, clean.trace.last.resid, k),
    )


def effects(resident: Resident, request: EffectsRequest) -> EffectsView:
    """Every last-layer neuron ablated by itself at one position: filtered, sorted, one page of rows."""
    clean = run(resident, request)
    position = len(clean.ids) - 1 if request.position is None else request.position
    values = baseline_of(resident, request.baseline, clean.trace)
    asked = last_layer(resident, request.neurons)

    def ablated() -> ablations.Effects:
        return ablations.effects(clean.engine, clean.trace.last, clean.ids, position, baseline=values, neurons=asked)

    means = resident.means_sha256 if request.baseline == "mean" else None
    inputs = (tuple(clean.ids), position, request.baseline, means, clean.ln_scale, resident.counts_sha256)
    table = ablated() if asked is not None else resident.cached(EFFECTS, inputs, ablated)
    total, picked, columns = _selected(request, clean, table)
    return EffectsView(
        total=total,
        rows=[rows.row(columns, index, resident.model.last_layer) for index in picked],
        clean=to_view.position(resident.model, clean.trace, position),
        ln_scale=clean.ln_scale,
        rows_kept=clean.engine.rows is not None,
        provenance=provenance("effects", resident, clean.ids, request, request.baseline),
    )


def baseline_of(resident: Resident, baseline: float | str, clean: Trace) -> Baselines:
    """The value that each last-layer neuron is ablated to; NotReadyError while there is no mean."""
    if baseline == "mean":
        resident.require_means()
    skip = sinks.sinks_in(resident.model, len(clean), keep=resident.settings.keep_sinks)
    return ablations.baseline_values(cast(Baseline, baseline), clean.last.activations, resident.last_means, skip=skip)


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
    found = {name: list(nothing) for name in ("temperature", "temperature_share", "temperature_kl")}
    if len(fitted):
        which = list(fitted)
        neurons = table.neurons[which].tolist()
        fit = temperature_share(clean.engine, clean.trace.last, table.position, neurons, table.delta[which])
        for name, values in (
            ("temperature", fit.temperature),
            ("temperature_share", fit.share),
            ("temperature_kl", (1 - fit.share) * fit.kl),
        ):
            for index, value in zip(which, series(values), strict=True):
                found[name][index] = value
    return rows.columns(table, found)


def provenance(
    kind: str, resident: Resident, ids: list[int], request: PromptRequest, baseline: str | float | None = None
) -> Provenance:
    """Where an answer about a prompt comes from; None: nothing was ablated."""
    return to_view.provenance(
        resident,
        ids,
        prepend_bos=request.prepend_bos,
        baseline=None if baseline is None else to_view.baseline_name(baseline, resident),
        request_sha256=request_hash(kind, resident, ids, request),
    )


def request_hash(kind: str, resident: Resident, ids: list[int], request: BaseModel) -> str:
    """The identity of a request on this model; see `app.core.canonical`."""
    model = resident.model
    return content_hash(canonical_request(kind, model.key, model.weights_sha256, ids, request))
