"""What people write is text wherever it is shown: no script of theirs runs, no policy is violated.

`open_page` fails the test for any console error (a violated policy is one) and any request that leaves the server.
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.browser
EVIL = """<img src=x onerror="window.owned=1"><script>window.owned=1</script> {{7*7}} ' " </textarea></script>"""


def test_no_script_of_a_prompt_note_or_list_runs(server: str, open_page: Callable[..., Any]) -> None:
    with httpx.Client(base_url=server, timeout=120) as client:
        trace, effects = (
            client.post(f"/api/v1/models/demo/{kind}", json={"text": EVIL}).json() for kind in ("trace", "effects")
        )
        shared = client.post("/share", data={"text": EVIL}).headers["location"]
        client.post("/api/v1/notes", json={"target": "result:" + trace["permalink"][3:], "text": EVIL})
        evil_list = {"name": EVIL[:120], "model": "demo", "neurons": ["3.5"], "description": EVIL}
        assert client.post("/api/v1/lists", json=evil_list).status_code == 201
        file = client.get(trace["permalink"] + "/page.html").text
    for path in (trace["permalink"], effects["permalink"], shared, "/lab?who=lab", "/selfcheck", "/login"):
        page = open_page(path)
        assert "img src=x" in page.content() or path in ("/selfcheck", "/login")  # it is there, as text
        assert page.evaluate("window.owned") is None, path
        assert "img" not in page.url
    page = open_page("/login")
    page.set_content(file)
    assert page.evaluate("window.owned") is None
