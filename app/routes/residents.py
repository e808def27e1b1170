"""Loading and unloading models while the server runs: an administrator's calls (see `app.access.roles`)."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from analysis.registry import resolve
from analysis.types import InputError
from app.deps import HostDep, SettingsDep
from app.errors import ConflictError
from app.present import core as shown
from app.requests.core import Strict
from app.views.core import ModelRow, ModelsView

router = APIRouter(prefix="/api/v1", tags=["core"])


class LoadRequest(Strict):
    """A model of the operator's allow-list, or one named at start that was unloaded since; never a path."""

    key: Annotated[str, Field(min_length=1, max_length=100)]


@router.post("/models", status_code=202)
async def load(body: LoadRequest, host: HostDep, settings: SettingsDep) -> ModelRow:
    """Load a model in the background; its state is in GET /models."""
    at_start = {resolve(name).key: name for name in settings.models}
    if body.key not in at_start and ("/" in body.key or body.key.startswith(".")):
        raise InputError("A model is named by its key, not by a path.", code="no_such_model", hint="See GET /models.")
    return shown.model_row(host.serve(at_start.get(body.key, body.key)), settings)


@router.delete("/models/{key}")
async def unload(key: str, host: HostDep, settings: SettingsDep) -> ModelsView:
    """Take a model out of memory; answers with those that are left."""
    host.entry(key)
    if len(host.entries) == 1:
        raise ConflictError("This is the only model that is served.", code="last_model", hint="Load another one first.")
    host.unload(key)
    return shown.models(host, settings)
