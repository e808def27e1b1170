"""How a command asks: the JSON API, of a running server (`--url`) or of the same app in this process.

Either way the answer is the API's own JSON, so a command cannot show another number than the page.
"""

import asyncio
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from analysis.types import one_line
from app.core.shell import streams

API = "/api/v1"
DAY = 24 * 3600.0


class Refused(click.ClickException):
    """One clear sentence and exit code 2."""

    exit_code = 2


Ask = Callable[[str, str, Any], Any]  # (method, path below the API, body) -> httpx.Response


Lines = Callable[[str, Any], Iterator[str]]  # (path below the API, body) -> the answer's lines as they come


def as_part(name: str) -> str:
    """A name as one part of a path: no character of it parts paths, starts a query or steps up."""
    return quote(name, safe="").replace(".", "%2E") if set(name) == {"."} else quote(name, safe="")


class ApiSession:
    """The API with errors as `Refused`. `keys` are the models' names there, in the order asked for; `key` the first."""

    def __init__(self, ask: Ask, keys: Sequence[str], lines: Lines | None = None) -> None:
        self._ask, self._lines = ask, lines
        self.keys = keys
        self.key = keys[0]

    @property
    def comes(self) -> bool:
        """Whether answers can be read as they come."""
        return self._lines is not None

    @property
    def quoted(self) -> str:
        """`key` as a part of a path."""
        return as_part(self.key)

    def get(self, path: str) -> Any:
        return _checked(self._ask("GET", path, None))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return _checked(self._ask("POST", path, body))

    def coming(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """POST, the views of its answer as they come; leaving the iteration ends the work. Only with `lines`."""
        assert self._lines is not None
        return streams.views(self._lines(path, body), _told)

    def send(self, path: str, content: bytes) -> Any:
        """POST of a file's content."""
        return _checked(self._ask("POST", path, content))

    def delete(self, path: str) -> Any:
        return _checked(self._ask("DELETE", path, None))

    def model(self, question: str, body: dict[str, Any]) -> Any:
        """POST to a question about the model: `trace`, `effects`, ..."""
        return self.post(f"/models/{self.quoted}/{question}", body)


def _body(body: Any) -> dict[str, Any]:
    return {"content": body} if isinstance(body, bytes) else {"json": body}


def _checked(response: Any) -> Any:
    if response.status_code < 400:
        return response.json() if response.content else None
    raise _told(response.status_code, response.content)


def _told(status: int, body: bytes) -> Refused:
    """What a refusal says."""
    try:
        error = json.loads(body)["error"]
        return Refused(one_line(error["message"], error["hint"]))
    except (ValueError, KeyError, TypeError):
        return Refused(f"The server answered {status}.")


@contextmanager
def opened(
    models: str | Sequence[str] | None, url: str | None, *, data_dir: Path | None = None, before_weights: bool = False
) -> Iterator[ApiSession]:
    """A door to a running server, or to an app of our own with the models loaded (and a data folder of its own).

    models: key or folder of one or several; None: the first that is served. before_weights: what is asked is answered
    for a listed model without its weights, too, from what ships of it.
    """
    named = (models,) if isinstance(models, str) else tuple(models or ())
    with refusing(), _remote(url, named) if url else _in_process(named, data_dir, before_weights) as door:
        yield door


@contextmanager
def refusing() -> Iterator[None]:
    """Errors meant for people become one sentence. What knows them (and torch) is imported only when there is one."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        if (refused := _refusal(error)) is None:
            raise
        raise refused from None


def _refusal(error: Exception) -> Refused | None:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from analysis.files import disk_full, is_full
    from analysis.types import NullscopeError
    from app.core.errors import validation_message

    if isinstance(error, NullscopeError):
        return Refused(error.told)
    if isinstance(error, ValidationError):
        return Refused(f"{validation_message(error.errors()).removesuffix('.')}.")
    if isinstance(error, SettingsError):
        return Refused(_no_json(str(error)))
    return Refused(disk_full("the file").told) if is_full(error) else None


def _no_json(error: str) -> str:
    """A variable of the environment that holds a list or a table, in ours for pydantic's words."""
    from app.core.settings import PREFIX

    named = re.search(r'field "(\w+)"', error)
    variable = f"{PREFIX}{named[1].upper()}" if named else f"A variable {PREFIX}..."
    return f'{variable} is not JSON. Write a list as ["demo", "./folder"], a table as {{"entropy": 2}}.'


def make_data_dir(folder: Path) -> None:
    """The folder for everything that is written, or Refused when it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise Refused(f"{folder} cannot be written to: {reason}. Set NULLSCOPE_DATA_DIR or --data-dir.") from None


@contextmanager
def _remote(url: str | None, models: tuple[str, ...]) -> Iterator[ApiSession]:
    import httpx

    from app.core.settings import Settings

    key_of_mine = Settings().key
    headers = {"Authorization": f"Bearer {key_of_mine.get_secret_value()}"} if key_of_mine else {}
    with httpx.Client(base_url=f"{url}".rstrip("/") + API, headers=headers, timeout=300) as client:

        def ask(method: str, path: str, body: Any) -> Any:
            try:
                return client.request(method, path, **_body(body))
            except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise Refused(f"No answer from {url}: {error}") from None

        def lines(path: str, body: Any) -> Iterator[str]:
            try:
                yield from streams.remote(client, path, body, _told)
            except httpx.TransportError as error:
                raise Refused(f"No answer from {url}: {error}") from None

        if not models:
            served = _checked(ask("GET", "/models", None))["models"]
            if not served:
                raise Refused(f"{url} serves no model.")
            models = (served[0]["key"],)
        yield ApiSession(ask, models, lines)


@contextmanager
def _in_process(models: tuple[str, ...], data_dir: Path | None, before_weights: bool) -> Iterator[ApiSession]:
    import httpx

    from app.core.residency import shipped
    from app.core.residency.host import ModelHost
    from app.core.settings import Settings
    from app.main import create_app

    settings = Settings(models=models, run_jobs=False) if models else Settings(run_jobs=False)
    if settings.effects_backend == "auto":  # one answer is sooner there than a compiler is done
        settings = settings.model_copy(update={"effects_backend": "eager"})
    # Nobody else waits for this process: an answer takes what it takes.
    settings = settings.model_copy(update={"request_seconds": max(settings.request_seconds, DAY)})
    if data_dir:
        settings = settings.model_copy(update={"data_dir": data_dir})
    if before_weights and models and all(shipped.file_of(key) is not None for key in models):
        settings = settings.model_copy(update={"allow_download": False})  # nobody waits for what the answer needs not
    make_data_dir(settings.data_dir)
    # Why a model failed is told below, once; without any handler Python would print the log's line too.
    logging.getLogger("app.core.residency.host").addHandler(logging.NullHandler())
    app = create_app(settings)
    app.state.gate.inside = True
    host: ModelHost = app.state.host
    keys = list(host.entries) if models else [host.default_key]
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        try:
            for key in keys:
                entry = host.wait(key)
                if entry.state == "failed":
                    if before_weights and shipped.file_of(key) is not None:
                        click.echo(f"The weights of {key} are not here: what ships of it answers.", err=True)
                        continue
                    raise Refused(f"{key} could not be loaded: {entry.error}")
                entry.means_settled.wait()  # a shell has nothing better to do than to wait for its baseline
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url="http://in-process" + API, timeout=None)
            yield ApiSession(
                lambda method, path, body: runner.run(client.request(method, path, **_body(body))),
                keys,
                lambda path, body: streams.inside(app, runner, API + path, body, _told),
            )
            runner.run(client.aclose())
        finally:
            runner.run(lifespan.__aexit__(None, None, None))
