"""The prompt page's view, computed on the device thread from the same answers that the API gives.

What is written into the page's state and does not hold for this model and this text (a neuron that it does not have,
positions beyond the text) is left out of the run and shown with the cause, so that it can be taken away again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis import sinks
from analysis.types import HeadIntervention, InputError, Intervention, NeuronId, NotFoundError, NullscopeError
from app.core import answer as core
from app.core import to_view as core_to_view
from app.core.errors import failure_of
from app.core.interventions import parse_intervention, written_positions
from app.core.question import priced
from app.core.request import AnyIntervention, EffectsRequest, PromptRequest
from app.core.residency.resident import Resident
from app.core.view import EffectsView, ErrorBody, TraceView
from app.prompt import to_view
from app.prompt.questions import EVERYTHING, page_price
from app.prompt.request import PromptState
from app.prompt.view import ModelFacts, PinView, PromptView


@dataclass(frozen=True)
class Held:
    """A state without what does not hold here; of each intervention and watched neuron left out, why."""

    state: PromptState
    items: Mapping[str, NullscopeError] = field(default_factory=dict)
    watched: Mapping[str, NullscopeError] = field(default_factory=dict)


@priced(page_price, "run")
def page(
    resident: Resident,
    state: PromptState,
    parts: Collection[str],
    frame: dict[str, Any],
    new: Collection[str] = (),
    strict: bool = False,
) -> PromptView:
    """A run of `state`, with the parts that the answer will show. `frame` holds what does not need the model.

    An intervention that does not hold is left out and named in the view; its error is raised if it is `new`, or with
    `strict`.
    """
    held = _held(resident, state)
    for name, error in (*held.items.items(), *held.watched.items()):
        if strict or name in new:
            raise error
    trace = core.trace(resident, held.state.trace_request())
    within = _within(held.state, trace)
    assert within.pos is not None
    pinned, pin_problem = _pinned(resident, within)
    if strict and pin_problem is not None:
        raise InputError(pin_problem.message, code=pin_problem.code, hint=pin_problem.hint)
    found = _table(resident, within, pinned, strict=strict) if "effects" in parts else {}
    beside = pinned.trace if pinned else None
    return PromptView(
        state=within.model_copy(update={"do": state.do, "watch": state.watch}).fields(),
        facts=_facts(resident, trace),
        chips=to_view.chips(state, {name: error.told for name, error in held.items.items()}),
        unwatched={name: error.told for name, error in held.watched.items()},
        trace=trace,
        turns=core.conversation(resident, state.text),
        selected=to_view.selected(trace, within.pos, beside) if "selected" in parts else None,
        pinned=pinned,
        pin_problem=pin_problem,
        **found,
        **frame,
    )


def stored_page(resident: Resident, state: PromptState) -> PromptView:
    """A stored page as the model answers it now; what does not hold any more is an error."""
    frame: dict[str, Any] = {"models": [], "examples": []}
    of_model = state.model_copy(update={"model": resident.key})
    return bare(page(resident, of_model, EVERYTHING, frame, strict=True))


def bare(view: PromptView) -> PromptView:
    """A page without what belongs to the server, not to the result."""
    state = {**view.state, "example": ""}
    own: dict[str, Any] = {"models": [], "examples": [], "example": None, "code": {}, "from_file": False}
    return view.model_copy(update={**own, "state": state})


def held(state: PromptState, view: PromptView) -> PromptState:
    """What the view was computed from."""
    items = zip(state.items, view.chips, strict=True)
    kept = state.model_copy(
        update={
            "do": " ".join(item for item, chip in items if chip.problem is None),
            "watch": " ".join(name for name in state.watched if name not in view.unwatched),
        }
    )
    return kept.unfiltered() if view.filter_problem else kept


def _held(resident: Resident, state: PromptState) -> Held:
    n_tokens = len(core.prompt_ids(resident, PromptRequest(text=state.text, prepend_bos=state.prepend_bos)))
    items: dict[str, NullscopeError] = {}
    applied = 0
    for item in dict.fromkeys(state.items):
        try:
            active, found = parse_intervention(item)
            _check(resident, found, n_tokens)
            applied += active
            _enough(applied, resident.limits.max_interventions, "interventions")
        except NullscopeError as error:
            items[item] = error
    watched: dict[str, NullscopeError] = {}
    for place, name in enumerate(state.watched, 1):
        try:
            resident.model.check_neuron(NeuronId.parse(name))
            _enough(place - len(watched), resident.limits.max_neurons, "neurons")
        except NullscopeError as error:
            watched[name] = error
    watch = [name for name in state.watched if name not in watched]
    metric = state.metric if "." not in state.metric or state.metric in watch else "entropy"
    kept = {"do": " ".join(item for item in state.items if item not in items), "watch": " ".join(watch)}
    return Held(state.model_copy(update={**kept, "metric": metric}), items, watched)


def _check(resident: Resident, asked: AnyIntervention, n_tokens: int) -> None:
    """That this model has the neuron or head, this text the positions, and the mean is known; else the error."""
    model, item = resident.model, core_to_view.intervention(asked)
    if isinstance(item, HeadIntervention):
        item.head.check(n_layers=model.n_layers, n_heads=model.n_heads)
    else:
        model.check_neuron(item.neuron)
    try:
        item.at(n_tokens)
    except InputError as error:
        named = written_positions(asked)
        raise InputError(
            f"Positions {named[:40]} do not lie in this text: it has {n_tokens} tokens.",
            code=error.code,
            hint=f"Positions run from 0 to {n_tokens - 1}.",
        ) from None
    if isinstance(item, Intervention) and item.mode == "mean":
        resident.require_means()


def _enough(count: int, most: int, what: str) -> None:
    if count > most:
        raise InputError(f"At most {most} {what} are allowed here.", code=f"limit_{what}", hint="Remove another one.")


def _within(state: PromptState, trace: TraceView) -> PromptState:
    """The selection on this text: the last token where none is chosen or the text is shorter now."""
    last = len(trace.tokens) - 1
    position = last if state.pos is None or state.pos > last else state.pos
    end = None if state.to is None or not position < state.to <= last else state.to
    show = state.show if trace.intervened is not None else "clean"
    return state.model_copy(update={"pos": position, "to": end, "show": show})


def _table(resident: Resident, state: PromptState, pinned: PinView | None, *, strict: bool) -> dict[str, Any]:
    """The neuron table as fields of the view. What goes wrong there (a baseline that is not ready) stands there and
    leaves the run alone; a filter that cannot hold leaves the table whole."""
    try:
        view = core.effects(resident, state.effects_request(state.pos))
    except (InputError, NotFoundError) as error:
        whole = state.unfiltered()
        if strict or whole == state:
            return {"effects_problem": _body(error)}
        found = _table(resident, whole, pinned, strict=False)
        return found if found.get("effects_problem") else {**found, "filter_problem": _body(error)}
    except NullscopeError as error:
        return {"effects_problem": _body(error)}
    return {"effects": view, "pinned_effects": _beside(resident, state, view) if pinned else None}


def _body(error: NullscopeError) -> ErrorBody:
    failure = failure_of(error)
    return ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)


def _pinned(resident: Resident, state: PromptState) -> tuple[PinView | None, ErrorBody | None]:
    """The pinned run, computed again; only on the same model, since two vocabularies cannot be drawn as one."""
    try:
        pin = state.of_pin()
        if pin is None:
            return None, None
        if pin.model not in (None, "", resident.key):
            raise InputError(f"The pinned run is of {pin.model[:40]}.", code="other_model", hint="Unpin it here.")
        trace = core.trace(resident, pin.trace_request())
    except NullscopeError as error:
        return None, _body(error)
    interventions = (f"{chip.neuron} {chip.label}" for chip in to_view.chips(pin) if chip.active)
    label = " · ".join([pin.text.strip().replace("\n", " ")[:48], *interventions])
    return PinView(label=label, trace=trace, facts=_facts(resident, trace)), None


def _beside(resident: Resident, state: PromptState, effects: EffectsView) -> dict[str, dict[str, Any]] | None:
    """The same neurons' effects at the same position of the pinned text; None where it has no such position."""
    pin = state.of_pin()
    if pin is None or not effects.rows:
        return None
    names = [row.neuron for row in effects.rows]
    request: EffectsRequest = pin.effects_request(state.pos).model_copy(
        update={"baseline": state.baseline, "neurons": names, "offset": 0, "limit": len(names)}
    )
    try:
        return {row.neuron: row.model_dump() for row in core.effects(resident, request).rows}
    except NullscopeError:
        return None


def _facts(resident: Resident, trace: TraceView) -> ModelFacts:
    model = resident.model
    return ModelFacts(
        key=model.key,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        d_mlp=model.d_mlp,
        d_vocab=model.d_vocab,
        max_tokens=resident.max_tokens,
        starts_with_bos=trace.tokens[0].id == model.bos_id,
        skip=_skip(resident, trace),
    )


def _skip(resident: Resident, trace: TraceView) -> int:
    """BOS stands first, or an attention sink."""
    if trace.tokens[0].id == resident.model.bos_id:
        return 1
    return sinks.sinks_in(resident.model, len(trace.tokens), keep=resident.settings.keep_sinks)
