"""What people write is text wherever it is shown: no script of theirs runs, no policy is violated.

`open_page` fails the test for any console error (a violated policy is one) and any request that leaves the server.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, expect

from tests.app.served import PATIENCE

pytestmark = pytest.mark.browser
EVIL = """<img src=x onerror="window.owned=1"><script>window.owned=1</script> {{7*7}} ' " </textarea></script>"""


def test_no_script_of_a_prompt_note_or_list_runs(server: str, open_page: Callable[..., Any]) -> None:
    with httpx.Client(base_url=server, timeout=PATIENCE) as client:
        trace, effects = (
            client.post(f"/api/v1/models/demo/{kind}?store=true", json={"text": EVIL}).json()
            for kind in ("trace", "effects")
        )
        shared = client.post("/share", data={"text": EVIL}).headers["location"]
        client.post("/api/v1/notes", json={"target": "result:" + trace["permalink"][3:], "text": EVIL})
        evil_list = {"name": EVIL[:120], "model": "demo", "neurons": ["3.5"], "description": EVIL}
        assert client.post("/api/v1/lists", json=evil_list).status_code == 201
    for path in (trace["permalink"], effects["permalink"], shared, "/lab?who=lab", "/selfcheck", "/login"):
        page = open_page(path)
        assert "img src=x" in page.content() or path in ("/selfcheck", "/login")  # it is there, as text
        assert page.evaluate("window.owned") is None, path
        assert "img" not in page.url


def test_a_file_for_a_supplement_draws_its_charts_by_itself(server: str, browser: Browser, tmp_path: Path) -> None:
    """Opened from a disk without any server: nothing is fetched, nothing that somebody wrote runs."""
    with httpx.Client(base_url=server, timeout=PATIENCE) as client:
        link = client.post("/api/v1/models/demo/trace?store=true", json={"text": EVIL}).json()["permalink"]
        file = tmp_path / "supplement.html"
        file.write_text(client.get(f"{link}/page.html").text, encoding="utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(file.as_uri())
    expect(page.locator("[data-chart=curves] [data-drawn] .main-svg").first).to_be_visible()
    assert page.evaluate("window.owned") is None
    assert [found for found in seen if not found.startswith("data:")] == [file.as_uri()]
    context.close()
