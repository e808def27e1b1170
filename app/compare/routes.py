"""The compare page: two models or checkpoints side by side, and the neurons through training."""

from typing import Annotated, Any

from fastapi import Query, Request, Response

from analysis.types import NotReadyError
from app.compare import charts as figures
from app.compare.request import CompareState, SidesQuery
from app.compare.sides import compared
from app.compare.view import SidesView
from app.core import pages
from app.core.answering import router as routes
from app.core.atlas_caller import PAGE_PATIENCE, AtlasCallerDep
from app.core.atlas_waiting import wait

router = routes(tags=["atlas"])


@router.get("/api/v1/compare")
async def compared_sides(query: Annotated[SidesQuery, Query()], asker: AtlasCallerDep) -> SidesView:
    """The last layers of two models or checkpoints, and how the entropy neurons came up through training."""
    return await compared(asker, query, query.model_dump())


@router.get("/compare", include_in_schema=False)
async def compare(request: Request, state: Annotated[CompareState, Query()], asker: AtlasCallerDep) -> Response:
    """`training` is computed for its fragment and for JSON; the page does not wait for it."""
    key = asker.key(state.model)
    wants = pages.format_of(request) == "json" or pages.fragment_of(request) == "training"
    query = SidesQuery(a=state.a or key, b=state.b, k=state.k, training=wants)
    try:
        view = await compared(asker, query, state.model_dump(), patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, asker, (state.a or key).partition("@")[0])
    return pages.respond(
        request, view, template="compare/compare.html", title="Compare", model=key, figures=charts(view)
    )


def charts(view: SidesView) -> dict[str, Any]:
    found: dict[str, Any] = {
        "side0": lambda: figures.scatter(view, 0),
        "side1": lambda: figures.scatter(view, len(view.sides) - 1),
        "spectra": lambda: figures.spectra(view),
        "layers": lambda: figures.by_layer(view),
    }
    training = view.training
    if training is not None:
        found["rho"] = lambda: figures.training(training, "rho", "ρ", line=training.chance)
        found["logit_var"] = lambda: figures.training(
            training, "logit_var_over_median", "LogitVar / median", line=1, log=True
        )
        found["norm"] = lambda: figures.training(training, "norm_over_median", "Norm / median", line=1)
    return found
