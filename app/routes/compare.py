"""The compare page: two models or checkpoints side by side, and the neurons through training."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from analysis.types import NotReadyError
from app import pages
from app.answers import compare as answers
from app.figures import compare as figures
from app.requests.atlas import CompareState
from app.routes.atlas import wait
from app.routes.footing import PAGE_PATIENCE, Ground, GroundDep
from app.views.compare import CompareView, Side, Training

router = APIRouter(include_in_schema=False)


@router.get("/compare")
async def compare(request: Request, state: Annotated[CompareState, Query()], ground: GroundDep) -> Response:
    """`training` is computed for its fragment and for JSON; the page does not wait for it."""
    key = ground.key(state.model)
    names = await sides_of(ground)
    first = state.a or key
    second = state.b or next((name for name in names if name != first), first)
    try:
        await ground.footing(first.partition("@")[0], patience=PAGE_PATIENCE)
        sides = [await side(ground, name, state.k) for name in dict.fromkeys((first, second))]
    except NotReadyError:
        return wait(request, ground, first.partition("@")[0])
    wants = pages.format_of(request) == "json" or pages.fragment_of(request) == "training"
    view = CompareView(
        model=key,
        names=names,
        state=state.model_dump() | {"a": first, "b": second},
        sides=sides,
        has_checkpoints=any(name.startswith(f"{first.partition('@')[0]}@") for name in names),
        training=await through_training(ground, first.partition("@")[0]) if wants else None,
    )
    return pages.respond(request, view, template="compare.html", title="Compare", model=key, figures=charts(view))


def charts(view: CompareView) -> dict[str, Any]:
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


async def sides_of(ground: Ground) -> list[str]:
    """Every loaded model, and its checkpoints."""
    names: list[str] = []
    for key in ground.models:
        names.append(key)
        if ground.caller.host.entry(key).state == "loaded":
            names += [f"{key}@{tokens}" for tokens in await ground.caller.run(key, answers.checkpoint_files)]
    return names


async def side(ground: Ground, name: str, k: int | None) -> Side:
    key, _, tokens = name.partition("@")
    found: Side
    if tokens:
        found = await ground.caller.run(key, answers.checkpoint, int(tokens), k)
    else:
        found = await ground.ask(key, answers.whole, k, patience=PAGE_PATIENCE)
    return found


async def through_training(ground: Ground, key: str) -> Training | None:
    """A checkpoint a ticket; None where the model has none."""
    files = await ground.caller.run(key, answers.checkpoint_files)
    if not files:
        return None
    neurons = await ground.ask(key, answers.tracked)
    moments = [await ground.ask(key, answers.moment, tokens, neurons) for tokens in (*files, None)]
    found: Training = await ground.ask(key, answers.training, neurons, moments)
    return found
