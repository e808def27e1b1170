"""The null-space page."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from analysis.types import NotReadyError
from app import pages
from app.answers import nullspace as answers
from app.figures import spectrum as figures
from app.requests.atlas import NullspaceState
from app.routes.atlas import wait
from app.routes.footing import PAGE_PATIENCE, Ground, GroundDep

router = APIRouter(include_in_schema=False)

PARTS = {"spectrum": set(), "rho": set(), "walk": {"walk"}}


@router.get("/nullspace")
async def nullspace(request: Request, state: Annotated[NullspaceState, Query()], ground: GroundDep) -> Response:
    """The spectrum of the unembedding; k on a slider recomputes rho of every neuron."""
    return await respond(request, state, ground)


@router.post("/nullspace")
async def on_text(request: Request, state: Annotated[NullspaceState, Form()], ground: GroundDep) -> Response:
    """The same with a walk on a text of one's own, which stands in no address."""
    return await respond(request, state, ground)


async def respond(request: Request, state: NullspaceState, ground: Ground) -> Response:
    key = ground.key(state.model)
    parts = PARTS.get(pages.fragment_of(request) or "", {"others", "walk"})
    try:
        view = await ground.ask(key, answers.page, state, parts, ground.models, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, ground, key)
    return pages.respond(
        request,
        view,
        template="nullspace.html",
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
    )
