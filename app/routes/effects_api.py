"""The JSON API of the effects pages: heat map, joint sets, dose response, LN ledger."""

from typing import cast

from fastapi import APIRouter

from app.answers import effects as answers
from app.deps import CallerDep
from app.requests import effects as requests
from app.routes.in_steps import in_steps
from app.views import effects as views

router = APIRouter(prefix="/api/v1/models/{key}", tags=["effects"])


@router.post("/heatmap")
async def heatmap(key: str, body: requests.HeatmapRequest, caller: CallerDep) -> views.HeatmapView:
    """Every token by every last-layer neuron, each ablated by itself; the first rows by a column."""
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
