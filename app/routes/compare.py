"""The compare page: two models or checkpoints side by side, and the neurons through training."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from analysis.types import NotReadyError
from app import pages
from app.figures import compare as figures
from app.requests.atlas import CompareState, SidesQuery
from app.routes.atlas import wait
from app.routes.footing import PAGE_PATIENCE, GroundDep
from app.routes.sides import compared
from app.views.compare import SidesView

router = APIRouter(include_in_schema=False)


@router.get("/compare")
async def compare(request: Request, state: Annotated[CompareState, Query()], ground: GroundDep) -> Response:
    """`training` is computed for its fragment and for JSON; the page does not wait for it."""
    key = ground.key(state.model)
    wants = pages.format_of(request) == "json" or pages.fragment_of(request) == "training"
    query = SidesQuery(a=state.a or key, b=state.b, k=state.k, training=wants)
    try:
        view = await compared(ground, query, state.model_dump(), patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, ground, (state.a or key).partition("@")[0])
    return pages.respond(request, view, template="compare.html", title="Compare", model=key, figures=charts(view))


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
