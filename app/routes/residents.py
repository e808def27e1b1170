"""The models page; loading and unloading while the server runs: an administrator's calls (see `app.access.roles`)."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from pydantic import Field

from analysis.registry import BUNDLED, HUB_MODELS, resolve
from analysis.types import InputError
from app import pages
from app.deps import CallerDep, HostDep, SettingsDep
from app.errors import ConflictError
from app.present import core as shown
from app.requests.core import Strict
from app.settings import Settings
from app.views.core import ModelRow, ModelsPageView, ModelsView

router = APIRouter(tags=["core"])


def _at_start(settings: Settings) -> dict[str, str]:
    """Key -> the name that the operator gave."""
    return {resolve(name).key: name for name in settings.models}


class LoadRequest(Strict):
    """A model of the operator's allow-list, or one named at start that was unloaded since; never a path."""

    key: Annotated[str, Field(min_length=1, max_length=100)]


@router.post("/api/v1/models", status_code=202)
async def load(body: LoadRequest, host: HostDep, settings: SettingsDep) -> ModelRow:
    """Load a model in the background; its state is in GET /models."""
    at_start = _at_start(settings)
    if body.key not in at_start and ("/" in body.key or body.key.startswith(".")):
        raise InputError("A model is named by its key, not by a path.", code="no_such_model", hint="See GET /models.")
    return shown.model_row(host.serve(at_start.get(body.key, body.key)), settings)


@router.delete("/api/v1/models/{key}")
async def unload(key: str, host: HostDep, settings: SettingsDep) -> ModelsView:
    """Take a model out of memory; answers with those that are left."""
    host.entry(key)
    if len(host.entries) == 1:
        raise ConflictError("This is the only model that is served.", code="last_model", hint="Load another one first.")
    host.unload(key)
    return shown.models(host, settings)


@router.get("/models", include_in_schema=False)
async def page(request: Request, caller: CallerDep, settings: SettingsDep) -> Response:
    """What is loaded here."""
    here, known = shown.models(caller.host, settings), [BUNDLED, *HUB_MODELS, *_at_start(settings)]
    view = ModelsPageView(
        models=here.models,
        may_load=caller.identity.is_admin,
        loadable=[key for key in dict.fromkeys(known) if key not in caller.host.entries],
    )
    return pages.respond(request, view, template="models.html", title="Models")


@router.post("/models/load", include_in_schema=False)
async def load_page(
    request: Request, host: HostDep, settings: SettingsDep, key: Annotated[str, Form(max_length=100)]
) -> Response:
    """The page's form."""
    await load(LoadRequest(key=key), host, settings)
    return pages.redirect(request, "/models")


@router.post("/models/{key}/unload", include_in_schema=False)
async def unload_page(request: Request, key: str, host: HostDep, settings: SettingsDep) -> Response:
    """The page's button."""
    await unload(key, host, settings)
    return pages.redirect(request, "/models")
