"""The JSON API of the instrument itself: models, tokens, trace, effects."""

from fastapi import APIRouter

from app.answers import core as answers
from app.answers.check import check as run_check
from app.deps import CallerDep, HostDep, SettingsDep
from app.present import core as shown
from app.requests import core as requests
from app.views import core as views
from app.views.check import CheckView

router = APIRouter(prefix="/api/v1", tags=["core"])


@router.get("/models")
async def models(host: HostDep, settings: SettingsDep) -> views.ModelsView:
    """The models served here."""
    return shown.models(host, settings)


@router.get("/models/{key}")
async def model(key: str, host: HostDep, settings: SettingsDep) -> views.ModelRow:
    """One of them."""
    return shown.model_row(host.entry(key), settings)


@router.post("/models/{key}/tokens")
async def tokens(key: str, body: requests.PromptRequest, caller: CallerDep) -> views.TokensView:
    """The prompt cut into tokens, beside the limit."""
    return await caller.answer(key, answers.count, body)


@router.post("/models/{key}/trace")
async def trace(key: str, body: requests.TraceRequest, caller: CallerDep) -> views.TraceView:
    """Per-token entropy, loss, LN scale, KL to the unigram distribution; clean and intervened."""
    return await caller.answer(key, answers.trace, body)


@router.get("/models/{key}/check")
async def check(key: str, caller: CallerDep) -> CheckView:
    """The identities that the numbers rest on, tried live on the resident weights."""
    return await caller.run(key, run_check)


@router.post("/models/{key}/effects")
async def effects(key: str, body: requests.EffectsRequest, caller: CallerDep) -> views.EffectsView:
    """Every last-layer neuron ablated by itself at one token: the exact effect and its parts."""
    return await caller.answer(key, answers.effects, body)
