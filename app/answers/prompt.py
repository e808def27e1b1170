"""The prompt page's view, computed on the device thread from the same answers that the API gives."""

from collections.abc import Collection
from typing import Any

from analysis.types import NullscopeError
from app.answers import core
from app.errors import failure_of
from app.present import prompt as shown
from app.requests.core import EffectsRequest
from app.requests.prompt import PromptState
from app.residency.resident import Resident
from app.views.core import EffectsView, ErrorBody, TraceView
from app.views.prompt import ModelFacts, PinView, PromptView

EVERYTHING = frozenset({"selected", "effects"})


def page(resident: Resident, state: PromptState, parts: Collection[str], frame: dict[str, Any]) -> PromptView:
    """A run of `state`, with the parts that the answer will show. `frame` holds what does not need the model."""
    trace = core.trace(resident, state.trace_request())
    state = _within(state, trace)
    assert state.pos is not None
    pinned = _pinned(resident, state)
    effects, problem, beside = None, None, None
    if "effects" in parts:
        effects, problem = _effects(resident, state)
        if pinned is not None and effects is not None:
            beside = _beside(resident, state, effects)
    return PromptView(
        state=state.fields(),
        facts=_facts(resident, trace),
        chips=shown.chips(state),
        trace=trace,
        selected=shown.selected(trace, state.pos, pinned.trace if pinned else None) if "selected" in parts else None,
        effects=effects,
        effects_problem=problem,
        pinned=pinned,
        pinned_effects=beside,
        **frame,
    )


def _within(state: PromptState, trace: TraceView) -> PromptState:
    """The selection on this text: the last token where none is chosen or the text is shorter now."""
    last = len(trace.tokens) - 1
    position = last if state.pos is None or state.pos > last else state.pos
    end = None if state.to is None or not position < state.to <= last else state.to
    show = state.show if trace.intervened is not None else "clean"
    return state.model_copy(update={"pos": position, "to": end, "show": show})


def _effects(resident: Resident, state: PromptState) -> tuple[EffectsView | None, ErrorBody | None]:
    """The neuron table; what goes wrong there (a baseline that is not ready) stands there and leaves the run alone."""
    try:
        return core.effects(resident, state.effects_request(state.pos)), None
    except NullscopeError as error:
        failure = failure_of(error)
        return None, ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)


def _pinned(resident: Resident, state: PromptState) -> PinView | None:
    """The pinned run, computed again; only on the same model, since two vocabularies cannot be drawn as one."""
    pin = state.of_pin()
    if pin is None:
        return None
    trace = core.trace(resident, pin.trace_request())
    interventions = (f"{chip.neuron} {chip.label}" for chip in shown.chips(pin) if chip.active)
    label = " · ".join([pin.text.strip().replace("\n", " ")[:48], *interventions])
    return PinView(label=label, trace=trace, facts=_facts(resident, trace))


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
    )
