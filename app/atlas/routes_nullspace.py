"""The null-space page."""

from typing import Annotated

from fastapi import Form, Query, Request, Response

from analysis.types import NotReadyError
from app.atlas import charts_spectrum as figures
from app.atlas import nullspace as answers
from app.atlas.questions import WALK
from app.atlas.request import NullspaceState
from app.atlas.view import NullspaceView, WalkView
from app.core import at_hand, pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.atlas_caller import PAGE_PATIENCE, AtlasCaller, AtlasCallerDep
from app.core.atlas_waiting import wait
from app.core.parts import Part, part

router = routes(include_in_schema=False)

# What each fragment shows; the page, JSON and CSV have everything.
PARTS: dict[str, set[str]] = {"spectrum": set(), "rho": set(), "walk": {"walk"}}


@router.get("/nullspace")
async def nullspace(request: Request, state: Annotated[NullspaceState, Query()], asker: AtlasCallerDep) -> Response:
    """The spectrum of the unembedding; k on a slider recomputes rho of every neuron."""
    return await respond(request, await at_hand.started(request, state), asker)


@router.post("/nullspace")
@asks
async def on_text(request: Request, state: Annotated[NullspaceState, Form()], asker: AtlasCallerDep) -> Response:
    """The same with a walk on a text of one's own, which stands in no address."""
    return await respond(request, state, asker)


async def respond(request: Request, state: NullspaceState, asker: AtlasCaller) -> Response:
    key = asker.key(state.model)
    state = state.placed(key, state.text)
    parts = PARTS.get(pages.fragment_of(request) or "", {"others", "walk"})
    try:
        view: NullspaceView = await asker.run(key, answers.page, state, parts, asker.models, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, asker, key)
    walked: Part[WalkView] = await part(request, walk(asker, key, state)) if "walk" in parts else Part()
    view = view.model_copy(update={"walk": walked.view, "problem": walked.problem})
    at_hand.take_up(request, key, state.text, pos=state.pos, tokens=walked.view.tokens if walked.view else ())
    return pages.respond(
        request,
        view,
        template="atlas/nullspace.html",
        title="Null space",
        model=key,
        figures={
            "spectrum": lambda: figures.singular_values(view),
            "tail": lambda: figures.singular_values(view, tail=True),
            "rho": lambda: figures.rho_histogram(view),
            "layers": lambda: figures.by_layer(view.spectrum.rho_quantiles, view.spectrum.chance.maximum, "ρ"),
            "heads": lambda: figures.heads(view),
            "walk": lambda: figures.walk(view),
        },
        status=walked.status,
    )


async def walk(asker: AtlasCaller, key: str, state: NullspaceState) -> WalkView:
    """On the reader's text, else on the beginning of the model's sample."""
    found: WalkView
    if state.text:
        found = await asker.ask(key, WALK, state.walk())
    elif state.as_it_is:
        found = await asker.run(key, answers.example, state.vocab_centred)
    else:
        found = await asker.run(key, answers.walked_on_sample, state)
    return found
