"""The Python that panels offer asks a closed server with the reader's own key, and runs as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import copied_python

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
