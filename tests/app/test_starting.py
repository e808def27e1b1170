"""From the first moment on the server answers; nothing heavy is imported for that, and what fails then is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.operate.starting import SENTENCE, Starting

PAGES = ("/", "/atlas", "/m/demo/n/3.17?text=secret")
LATER = ("/api/v1/models", "/api/v1/models/demo/trace", "/readyz", "/metrics")


def program(lived: list[str]) -> Starlette:
    @contextmanager
    def around(_: Any) -> Iterator[None]:
        lived.append("begun")
        yield
        lived.append("ended")

    async def page(_: Any) -> PlainTextResponse:
        return PlainTextResponse("the program")

    app = Starlette(routes=[Route("/", page)])
    app.router.lifespan_context = lambda scope: _Async(around(scope))  # type: ignore[assignment, return-value]
    return app


class _Async:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __aenter__(self) -> None:
        self.inner.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)


def test_every_address_answers_while_the_program_is_imported_and_the_program_afterwards() -> None:
    lived: list[str] = []
    imported, begun = threading.Event(), threading.Event()

    def build() -> Starlette:
        assert imported.wait(600)
        return program(lived)

    starting = Starting(build, stop=lambda: None, root_path="/behind")
    with TestClient(starting) as client:
        for path in PAGES:
            answer = client.get("/behind" + path)
            assert (answer.status_code, answer.headers["retry-after"], answer.headers["refresh"]) == (503, "1", "1")
            assert SENTENCE in answer.text
            assert "secret" not in answer.text
            assert "sha256-" in answer.headers["content-security-policy"]
        assert "refresh" not in client.post("/", data={"text": "x"}).headers, "a form is not sent twice"
        for path in LATER:
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "starting")
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.head("/").content == b""
        imported.set()
        while (answer := client.get("/")).status_code == 503:
            begun.wait(0.01)
        assert answer.text == "the program"
        assert lived == ["begun"]
    assert lived == ["begun", "ended"]


def test_what_fails_is_kept_and_ends_the_server() -> None:
    stopped = threading.Event()

    def build() -> Any:
        raise ValueError("no such device")

    starting = Starting(build, stop=stopped.set)
    with TestClient(starting):
        assert stopped.wait(600)
    assert str(starting.failure) == "no such device"


def test_the_server_ends_without_waiting_for_an_import() -> None:
    never, ended = threading.Event(), threading.Event()

    def build() -> Any:
        never.wait(600)
        ended.set()
        return SimpleNamespace()

    with TestClient(Starting(build, stop=lambda: None)):
        pass
    assert not ended.is_set()
    never.set()


def test_what_answers_first_imports_nothing_heavy() -> None:
    code = (
        "import sys, uvicorn\nfrom app.operate import serve, starting, logs\nfrom app.core import locks, settings\n"
        "from analysis import registry\nregistry.resolve('demo')\n"
        "serve.server_config(starting.Starting(lambda: None, lambda: None), settings.Settings())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"torch", "plotly", "pandas", "alembic", "sqlalchemy", "transformers"}
    assert heavy & set(done.stdout.split()) == set()
