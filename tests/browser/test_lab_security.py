"""What people write is text wherever it is shown: no script of theirs runs, no policy is violated.

`open_page` fails the test for any console error (a violated policy is one) and any request that leaves the server.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, expect

from analysis.shipped import shipped
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
        answer = client.post("/api/v1/models/demo/trace?store=true", json={"text": EVIL}).json()
        link = answer["permalink"]
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
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as JSON").click()
    assert json.loads(saved.value.path().read_text("utf-8"))["clean"] == answer["clean"]
    seen = [found for found in seen if not found.startswith("blob:")]
    assert page.evaluate("window.owned") is None
    assert [found for found in seen if not found.startswith("data:")] == [file.as_uri()]
    context.close()


def test_a_file_of_a_long_text_can_still_be_sent(server: str) -> None:
    """224 tokens with an intervention and a pinned run beside them, a heat map, the lens: each under 1.5 MB."""
    with httpx.Client(base_url=server, timeout=PATIENCE) as client:
        sample = (shipped("models") / "demo" / "sample.jsonl").read_text("utf-8").splitlines()
        text = " ".join(json.loads(line)["text"] for line in sample)[:4000]
        told = client.post("/api/v1/models/demo/tokens", json={"text": text}).json()["tokens"][:224]
        ids = {"token_ids": [token["id"] for token in told]}
        form = {"text": "".join(token["text"] for token in told[1:]), "do": "3.62:scale=3", "watch": "3.62"}
        pin = {"model": "demo", "text": form["text"], "do": "3.62:zero"}
        links = [client.post("/share", data={**form, "pin": json.dumps(pin)}).headers["location"]]
        for kind in ("heatmap", "lens"):
            links.append(client.post(f"/api/v1/models/demo/{kind}?store=true", json=ids).json()["permalink"])
        saved = client.get(links[0], params={"format": "json"}).json()["result"]
        assert len(saved["trace"]["tokens"]) == 224
        for link in links:
            assert len(client.get(f"{link}/page.html").content) < 1_500_000, link
