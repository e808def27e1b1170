"""The atlas page: every neuron by its weights."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from analysis.types import NotReadyError
from app import pages
from app.answers import atlas_page as answers
from app.figures import atlas as figures
from app.requests.atlas import AtlasState
from app.routes.footing import PAGE_PATIENCE, Ground, GroundDep

router = APIRouter(include_in_schema=False)

LocalPath = Annotated[str, Field(pattern=r"^/([^/\s\\][^\s\\]*)?$", max_length=4000, description="A page of ours.")]


@router.get("/atlas")
async def atlas(request: Request, state: Annotated[AtlasState, Query()], ground: GroundDep) -> Response:
    """The map and the table; the same state in the address."""
    key = ground.key(state.model)
    parts = {"neurons"} if pages.fragment_of(request) == "neurons" else {"neurons", "map"}
    try:
        view = await ground.ask(key, answers.page, state, parts, ground.models, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, ground, key)
    return pages.respond(
        request,
        view,
        template="atlas.html",
        title="Atlas",
        model=key,
        figures={"map": lambda: figures.neuron_map(view)},
    )


def wait(request: Request, ground: Ground, key: str) -> Response:
    """The page of a table that is being computed; it asks `progress` by itself."""
    query = request.url.query
    here = request.scope["path"].removeprefix(request.scope.get("root_path", "")) + (f"?{query}" if query else "")
    view = answers.waiting(ground.atlases.job(key), key, ground.models, request.query_params.get("to", here))
    return pages.respond(request, view, template="atlas_waiting.html", title="Atlas", model=key)


@router.get("/m/{model}/atlas-progress")
async def progress(request: Request, model: str, to: LocalPath, ground: GroundDep) -> Response:
    """How far the table is; back to the page that waits for it once it is there (or has failed, and says so)."""
    if ground.atlases.job(model).future.done():
        return pages.redirect(request, to)
    return wait(request, ground, model)
