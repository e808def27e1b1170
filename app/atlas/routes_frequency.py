"""The token-frequency page."""

from typing import Annotated

from fastapi import Form, Query, Request, Response

from analysis.types import NotReadyError
from app.atlas import charts_frequency as figures
from app.atlas import frequency as answers
from app.atlas.questions import FREQUENCY_ON
from app.atlas.request import FrequencyState
from app.atlas.view import FrequencyOnPrompt, FrequencyPageView
from app.core import at_hand, pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.atlas_caller import PAGE_PATIENCE, AtlasCaller, AtlasCallerDep
from app.core.atlas_waiting import wait
from app.core.parts import Part, part

router = routes(include_in_schema=False)


@router.get("/frequency")
async def frequency(request: Request, state: Annotated[FrequencyState, Query()], asker: AtlasCallerDep) -> Response:
    """The unigram distribution, the neurons that write along it, and what they do on a text."""
    return await respond(request, await at_hand.started(request, state), asker)


@router.post("/frequency")
@asks
async def on_text(request: Request, state: Annotated[FrequencyState, Form()], asker: AtlasCallerDep) -> Response:
    """The same for a text of one's own, which stands in no address."""
    return await respond(request, state, asker)


async def respond(request: Request, state: FrequencyState, asker: AtlasCaller) -> Response:
    key = asker.key(state.model)
    state = state.placed(key, state.text)
    try:
        view: FrequencyPageView = await asker.run(key, answers.page, state, asker.models, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, asker, key)
    live: Part[FrequencyOnPrompt] = Part()
    if view.summary.source is not None:
        live = await part(request, on_prompt(asker, key, state))
        shown = {} if live.view is None else {"prompt": live.view.prompt, "shift": live.view.shift}
        view = view.model_copy(update={**shown, "problem": live.problem})
        tokens = live.view.prompt.tokens if live.view else ()
        at_hand.take_up(request, key, state.text, pos=state.pos, tokens=tokens)
    return pages.respond(
        request,
        view,
        template="atlas/frequency.html",
        title="Token frequency",
        model=key,
        figures={
            "ranks": lambda: figures.ranks(view),
            "alignment": lambda: figures.alignment(view),
            "layers": lambda: figures.by_layer(view),
            "bias": lambda: figures.bias(view),
            "prompt": lambda: figures.prompt(view),
            "shift": lambda: figures.shift(view),
        },
        status=live.status,
    )


async def on_prompt(asker: AtlasCaller, key: str, state: FrequencyState) -> FrequencyOnPrompt:
    """On the reader's text, else on the beginning of the model's sample."""
    found: FrequencyOnPrompt
    if state.text:
        found = await asker.ask(key, FREQUENCY_ON, state.asked())
    elif state.neuron or state.pos:
        found = await asker.run(key, answers.on_sample, state)
    else:
        found = await asker.run(key, answers.example)
    return found
