"""The Python that panels offer asks a closed server with the reader's own key, and runs as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.testclient import TestClient

from app.core.settings import Settings
from app.main import create_app
from nullscope import Client
from tests.app.conftest import copied_python
from tests.app.test_client import Through
from tests.app.test_sweep_api import finished, started

FOLDER = "tiny é model"
KEY = "a shared key of the lab"


@pytest.fixture
def closed(make_settings: Callable[..., Settings]) -> Any:
    with TestClient(create_app(make_settings(token=KEY)), headers={"Authorization": f"Bearer {KEY}"}) as client:
        client.get("/api/v1/models/tiny-gpt2/neurons")
        yield client


@pytest.mark.parametrize(
    ("path", "form", "panels"),
    [
        ("/", {"text": "The cat sat"}, 2),
        ("/effects", {"text": "The cat sat", "panel": "joint"}, 1),
        ("/effects", {"text": "The cat sat", "panel": "ledger"}, 1),
        ("/nullspace?k=7&layer=0", None, 5),
    ],
)
def test_copied_python_logs_in(
    closed: TestClient,
    path: str,
    form: dict[str, str] | None,
    panels: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = closed.post(path, data=form) if form else closed.get(path)
    codes = copied_python(page.text)
    assert len(codes) >= panels, page.text[:2000]
    del closed.headers["Authorization"]
    monkeypatch.setattr(httpx, "get", lambda url, timeout, **asked: closed.get(url, **asked))
    monkeypatch.setattr(httpx, "post", lambda url, timeout, **asked: closed.post(url, **asked))
    for code in codes:
        assert KEY not in code
        monkeypatch.setenv("NULLSCOPE_KEY", KEY)
        exec(code, {})
        assert capsys.readouterr().out.strip() not in ("", "None", "[]", "{}"), code
        monkeypatch.setenv("NULLSCOPE_KEY", "another key than the lab's")
        with pytest.raises(Exception, match="401 Unauthorized"):
            exec(code, {})


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server of a folder whose name has to be quoted in an address, and a finished sweep."""
    home = tmp_path_factory.mktemp("folder")
    model = shutil.copytree(model_folder, home / FOLDER)
    settings = Settings(data_dir=home / "data", models=(str(model),), device="cpu", effects_backend="eager")
    with TestClient(create_app(settings)) as client:
        client.app.state.host.wait(FOLDER).means_settled.wait()  # type: ignore[attr-defined]
        yield client


@dataclass(frozen=True)
class Shown:
    """A page that shows numbers. panels: how many of them offer Python."""

    path: str
    panels: int
    form: dict[str, str] | None = None


TEXT = {"text": "The cat sat, and the cat left."}
AT = {**TEXT, "neurons": "1.3 1.5", "pos": "3"}
ROWS = {"kind": "random", "rows": "1", "length": "6"}
SHOWN = [
    Shown("/", 2, TEXT),
    *(Shown("/effects", 1, {**AT, "panel": panel}) for panel in ("heatmap", "joint", "dose", "ledger", "lens")),
    Shown("/effects", 1, {**AT, "panel": "ledger", "k": "3"}),
    Shown("/atlas?k=3&layer=0", 1),
    Shown("/m/{model}/n/1.3?k=3", 2),
    Shown("/m/{model}/n/1.3", 3, TEXT),
    Shown("/nullspace?k=3&layer=0", 6, {**TEXT, "k": "3", "layer": "0"}),
    Shown("/nullspace?k=3&vocab_centred=false", 6, {**TEXT, "k": "3", "vocab_centred": "false"}),
    Shown("/why", 1, TEXT),
    Shown("/why", 2, {**TEXT, "along": "true"}),
    Shown("/why", 2, {**TEXT, "vs": "2"}),
    Shown("/why", 2, {**TEXT, "follow": "1.3"}),
    Shown("/write", 1, {**TEXT, "n": "3"}),
    Shown("/write", 1, {**TEXT, "n": "3", "panel": "dial", "d1": "1.3"}),
    Shown("/m/{model}/n/1.3", 4, {**TEXT, "at": "3"}),
    Shown("/frequency", 7, TEXT),
    Shown("/compare?k=3", 3),
    Shown("/induction", 1, ROWS),
    Shown("/induction/heads", 1, ROWS),
    Shown("/induction/who", 1, {**ROWS, "who": "1.3"}),
    Shown("/induction/ablation", 1, {**ROWS, "heads": "0.0", "who": "1.3"}),
    Shown("/induction/natural", 1, {"kind": "text", "text": "abcdef ghi abcdefx"}),
    Shown("/sweeps/{sweep}", 1),
    Shown("/sweeps/{sweep}?sort=direct.abs_loss&limit=3", 1),
]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{shown.path} {shown.form or ''}")
def test_copied_python_gives_the_numbers_that_are_shown(
    shown: Shown, folder: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is pasted: whatever it prints is on the page, for a model folder and another k as well."""
    folder.cookies.clear()  # somebody who has nothing at hand
    sweep = _sweep(folder) if "{sweep}" in shown.path else ""
    path = shown.path.format(model=quote(FOLDER), sweep=sweep)
    method = "GET" if shown.form is None and not path.startswith("/induction/") else "POST"

    def page(accept: str) -> httpx.Response:
        return folder.request(method, path, data=shown.form, headers={"accept": accept}).raise_for_status()

    numbers, codes = page("application/json").json(), copied_python(page("text/html").text)
    assert len(codes) == shown.panels
    monkeypatch.setattr(httpx, "get", lambda url, timeout, **asked: folder.get(url, **asked))
    monkeypatch.setattr(httpx, "post", lambda url, timeout, **asked: folder.post(url, **asked))
    for code in codes:
        printed: list[Any] = []
        exec(code, {"print": lambda *values, said=printed: said.extend(values)})
        assert printed, code
        for value in printed:
            assert value not in (None, [], {})
            assert _occurs(value, numbers), (code, value)


def _sweep(client: TestClient) -> str:
    found = [sweep["id"] for sweep in client.get("/api/v1/sweeps").json()["sweeps"]]
    name = found[0] if found else started(client)
    finished(client, name)
    return name


def _occurs(value: Any, within: Any) -> bool:
    """Whether it stands there as it is; a list also where each of its items does."""
    return _stands(value, within) or (isinstance(value, list | tuple) and all(_occurs(item, within) for item in value))


def _stands(value: Any, within: Any) -> bool:
    inner = within.values() if isinstance(within, dict) else within if isinstance(within, list) else ()
    return bool(value == within) or any(_stands(value, part) for part in inner)


def test_copied_python_of_a_permalink_opens_it(folder: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = folder.post(f"/api/v1/models/{quote(FOLDER)}/ledger?store=true", json={**TEXT, "k": 3}).json()
    (code,) = copied_python(folder.get(asked["permalink"], headers={"accept": "text/html"}).text)
    monkeypatch.setattr("nullscope.Client", lambda url: Client(url, transport=Through(folder)))
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["saved"].verdict == "recomputed"
    assert found["saved"].result["rows"] == asked["rows"]
