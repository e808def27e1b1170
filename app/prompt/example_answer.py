"""A worked example's page, computed on the device thread."""

from app.core import answer as core
from app.core.residency.resident import Resident
from app.prompt import answer as prompt
from app.prompt.examples import Example
from app.prompt.questions import EVERYTHING
from app.prompt.request import PromptState
from app.prompt.view import PromptView


def page(resident: Resident, example: Example) -> PromptView:
    """Find the token and the neuron that the example speaks of, then compute its page."""
    state = PromptState(text=example.text)
    position = example.position(core.trace(resident, state.trace_request()))
    state = PromptState.read({"text": example.text, "pos": position, **example.shown})
    if example.pick is not None:
        by = example.pick.column.partition(".")[0].removeprefix("d_")
        state = state.model_copy(update={"sort": example.pick.column, "order": example.pick.order, "by": by})
        first = example.pick.neuron or core.effects(resident, state.effects_request(position)).rows[0].neuron
        watch = first if example.pick.watch else state.watch
        do = f"{first}:{example.pick.intervention}"
        state = state.model_copy(update={"do": do, "show": "change", "watch": watch})
    frame = {"models": [resident.key], "examples": []}
    return prompt.page(resident, state, EVERYTHING, frame, strict=True)
