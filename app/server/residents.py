"""The models page; loading and unloading while the server runs: an administrator's calls."""

from pathlib import PurePath
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from pydantic import Field
from starlette.datastructures import UploadFile

from analysis.registry import BUNDLED, LISTED, resolve
from analysis.types import InputError
from app.core import offloop, pages, to_view
from app.core.access.roles import door
from app.core.answering import router as routes
from app.core.bodies import sent_file
from app.core.caller import Caller, CallerDep, HostDep, SettingsDep
from app.core.errors import ConflictError
from app.core.format import size
from app.core.request import Strict
from app.core.residency import means
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from app.core.view import ModelRow, ModelsPageView, ModelsView

router = routes(tags=["core"])


def _at_start(settings: Settings) -> dict[str, str]:
    """Key -> the name that the operator gave."""
    return {resolve(name).key: name for name in settings.models}


class LoadRequest(Strict):
    """A model of the operator's allow-list, or one named at start that was unloaded since; never a path."""

    key: Annotated[str, Field(min_length=1, max_length=100)]


@router.get("/api/v1/models")
async def models(host: HostDep, settings: SettingsDep) -> ModelsView:
    """The models served here."""
    return to_view.models(host, settings)


@router.get("/api/v1/models/{key}")
async def model(key: str, host: HostDep, settings: SettingsDep) -> ModelRow:
    """One of them."""
    return to_view.model_row(host.entry(key), settings)


@router.post("/api/v1/models", status_code=202)
@door("admin")
async def load(body: LoadRequest, host: HostDep, settings: SettingsDep) -> ModelRow:
    """Load a model in the background; its state is in GET /models."""
    at_start = await offloop.read(_at_start, settings)
    if body.key not in at_start and ("/" in body.key or body.key.startswith(".")):
        raise InputError("A model is named by its key, not by a path.", code="no_such_model", hint="See GET /models.")
    spec = await offloop.read(resolve, at_start.get(body.key, body.key))
    return to_view.model_row(host.serve(spec), settings)


@router.delete("/api/v1/models/{key}")
@door("admin")
async def unload(key: str, host: HostDep, settings: SettingsDep) -> ModelsView:
    """Take a model out of memory; answers with those that are left."""
    host.entry(key)
    if len(host.entries) == 1:
        raise ConflictError("This is the only model that is served.", code="last_model", hint="Load another one first.")
    host.unload(key)
    return to_view.models(host, settings)


@router.post(
    "/api/v1/models/{key}/reference",
    status_code=202,
    openapi_extra={"requestBody": {"content": {"text/plain": {}}, "required": True}},
)
@door("admin")
async def take_reference(
    request: Request, key: str, caller: CallerDep, name: Annotated[str, Query(max_length=200)]
) -> ModelRow:
    """Take the model's reference means over this text, the request's body: .txt, or .jsonl with a `text` key, by its
    name. 422 where more than 5 % of its tokens are unknown. In the background; its state is in GET /models."""
    return await _take_reference(caller, key, name, await sent_file(request))


async def _take_reference(caller: Caller, key: str, name: str, content: bytes) -> ModelRow:
    host, settings = caller.host, caller.settings
    entry = host.entry(key)
    if means.named_text(settings, key) is not None:
        raise ConflictError(
            f"The text of {key} is named where this server is started.",
            code="reference_named",
            hint=f"Start it without --reference {key}=FILE.",
        )
    path = await offloop.write(means.arriving, settings, key, name, content)
    try:
        await caller.run(key, means.check_text, path, name)
    except BaseException:
        await offloop.write(path.unlink, missing_ok=True)
        raise
    await offloop.write(means.arrived, path)
    host.renew_means(key)
    return to_view.model_row(entry, settings)


@router.delete("/api/v1/models/{key}/reference")
@door("admin")
async def forget_reference(key: str, host: HostDep, settings: SettingsDep) -> ModelRow:
    """The model's means are over the text again that it had before one was sent."""
    entry = host.entry(key)
    if await offloop.read(means.sent_text, settings, key) is not None:
        await offloop.write(means.forget_sent, settings, key)
        host.renew_means(key)
    return to_view.model_row(entry, settings)


@router.post("/models/{key}/reference", include_in_schema=False)
@door("admin")
async def take_reference_page(request: Request, key: str, caller: CallerDep) -> Response:
    """The page's form."""
    file = (await request.form()).get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise InputError("No file was chosen.", code="no_file", hint="Choose a .txt or .jsonl file.")
    await _take_reference(caller, key, PurePath(file.filename).name, await file.read())
    return pages.redirect(request, "/models")


@router.get("/models", include_in_schema=False)
async def page(
    request: Request,
    caller: CallerDep,
    settings: SettingsDep,
    fetch: Annotated[str, Query(max_length=100, description="A model to be downloaded: whether to do that.")] = "",
) -> Response:
    """What is loaded here."""
    here = to_view.models(caller.host, settings)
    known = [BUNDLED, *LISTED, *await offloop.read(_at_start, settings)]
    loadable = [key for key in dict.fromkeys(known) if key not in caller.host.entries]
    rows = await offloop.read(_listed, caller.host, settings, loadable)
    view = ModelsPageView(
        models=here.models,
        may_load=caller.identity.is_admin,
        loadable=loadable,
        offers={key: _offer(row) for key, row in rows.items()},
        asked=rows.get(fetch),
    )
    return pages.respond(request, view, template="server/models.html", title="Models")


def _listed(host: ModelHost, settings: Settings, keys: list[str]) -> dict[str, ModelRow]:
    """Those of the list that would have to be downloaded."""
    rows = (to_view.available_row(LISTED[key], host.hub, settings) for key in keys if key in LISTED)
    return {row.key: row for row in rows if row.state == "absent"}


def _offer(row: ModelRow) -> str:
    return f"about {size(row.bytes_to_download)} to download, {row.licence}"


@router.post("/models/load", include_in_schema=False)
@door("admin")
async def load_page(
    request: Request,
    host: HostDep,
    settings: SettingsDep,
    key: Annotated[str, Form(max_length=100)],
    agreed: Annotated[bool, Form()] = False,
) -> Response:
    """The page's form. What would have to be downloaded is asked about first, with its size and licence."""
    new = () if agreed or key in host.entries else await offloop.read(_listed, host, settings, [key])
    if new:
        return pages.redirect(request, f"/models?{urlencode({'fetch': key})}#fetch")
    await load(LoadRequest(key=key), host, settings)
    return pages.redirect(request, "/models")


@router.post("/models/{key}/unload", include_in_schema=False)
@door("admin")
async def unload_page(request: Request, key: str, host: HostDep, settings: SettingsDep) -> Response:
    """The page's button."""
    await unload(key, host, settings)
    return pages.redirect(request, "/models")
