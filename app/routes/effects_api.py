"""The JSON API of the effects pages: heat map, joint sets, dose response, LN ledger."""

from typing import cast

from fastapi import APIRouter, Request, Response

from app.answers import effects as answers
from app.deps import CallerDep
from app.requests import effects as requests
from app.routes.in_lines import NDJSON, in_lines, wants_lines
from app.routes.in_steps import in_steps
from app.views import effects as views

router = APIRouter(prefix="/api/v1/models/{key}", tags=["effects"])


@router.post(
    "/heatmap",
    response_model=views.HeatmapView,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
)
async def heatmap(
    key: str, body: requests.HeatmapRequest, caller: CallerDep, request: Request
) -> Response | views.HeatmapView:
    """Every token by every last-layer neuron, each ablated by itself; the first rows by a column.

    With `Accept: application/x-ndjson` it comes as it is computed: a heat map a line, some four a second, each with
    more cells than the one before it (`done` of `cells`); the last line is the whole.
    """
    if wants_lines(request):
        return await in_lines(caller, key, answers.heatmap_views, body)
    return cast(views.HeatmapView, await in_steps(caller, key, answers.heatmap, body))


@router.post("/joint")
async def joint(key: str, body: requests.JointRequest, caller: CallerDep) -> views.JointView:
    """A set of last-layer neurons ablated together, exactly, beside the sum of its neurons alone."""
    return await caller.answer(key, answers.joint, body)


@router.post("/dose")
async def dose(key: str, body: requests.DoseRequest, caller: CallerDep) -> views.DoseView:
    """A set's activations clamped from low to high: entropy, loss, LN scale and top-1 probability over the dose."""
    return await caller.answer(key, answers.dose, body)


@router.post("/ledger")
async def ledger(key: str, body: requests.LedgerRequest, caller: CallerDep) -> views.LedgerView:
    """The squared LN scale at a token, split exactly over embedding, heads, MLPs, biases, and null and row space."""
    return await caller.answer(key, answers.ledger, body)
