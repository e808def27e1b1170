"""The atlas page: every neuron by its weights."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from analysis.types import NotReadyError
from app.atlas import charts as figures
from app.atlas import page as answers
from app.atlas.request import AtlasState
from app.core import offloop, pages
from app.core.answering import router as routes
from app.core.atlas_caller import PAGE_PATIENCE, AtlasCallerDep
from app.core.atlas_waiting import wait
from app.core.wording import spelled

router = routes(include_in_schema=False)

OURS = spelled(r"^/([^/\s\\][^\s\\]*)?$", "the path of a page of this server")
LocalPath = Annotated[str, Field(pattern=OURS, max_length=4000, description="A page of ours.")]


@router.get("/atlas")
async def atlas(request: Request, state: Annotated[AtlasState, Query()], asker: AtlasCallerDep) -> Response:
    """The map and the table; the same state in the address."""
    key = asker.key(state.model)
    state = state.whole() if pages.gives_a_file(request) else state
    parts = {"neurons"} if pages.fragment_of(request) == "neurons" else {"neurons", "map"}
    models = await asker.with_shipped()
    try:
        if (here := await asker.before_weights(key, state.sweep)) is not None:
            view = await offloop.read(answers.before_weights, here, state, parts, models)
        else:
            view = await asker.run(key, answers.page, state, parts, models, sweep=state.sweep, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, asker, key)
    return pages.respond(
        request,
        view,
        template="atlas/atlas.html",
        title="Atlas",
        model=key,
        figures={"map": lambda: figures.neuron_map(view)},
    )


@router.get("/m/{model}/atlas-progress")
async def progress(request: Request, model: str, to: LocalPath, asker: AtlasCallerDep) -> Response:
    """How far the table is; back to the page that waits for it once it is there (or has failed, and says so)."""
    if asker.atlases.job(model).future.done():
        return pages.redirect(request, to)
    return wait(request, asker, model)
