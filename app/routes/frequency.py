"""The token-frequency page."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from analysis.types import NotReadyError
from app import pages
from app.answers import frequency as answers
from app.figures import frequency as figures
from app.requests.atlas import FrequencyState
from app.routes.atlas import wait
from app.routes.footing import PAGE_PATIENCE, Ground, GroundDep

router = APIRouter(include_in_schema=False)


@router.get("/frequency")
async def frequency(request: Request, state: Annotated[FrequencyState, Query()], ground: GroundDep) -> Response:
    """The unigram distribution, the neurons that write along it, and what they do on a text."""
    return await respond(request, state, ground)


@router.post("/frequency")
async def on_text(request: Request, state: Annotated[FrequencyState, Form()], ground: GroundDep) -> Response:
    """The same for a text of one's own, which stands in no address."""
    return await respond(request, state, ground)


async def respond(request: Request, state: FrequencyState, ground: Ground) -> Response:
    key = ground.key(state.model)
    try:
        view = await ground.ask(key, answers.page, state, ground.models, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, ground, key)
    return pages.respond(
        request,
        view,
        template="frequency.html",
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
    )
