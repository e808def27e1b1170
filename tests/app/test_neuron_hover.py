"""Whatever chart has neurons as its points: hovering over one tells its name, norm, LogitVar, ρ and labels."""

import html
import json
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.test_sweep_api import SMALL, finished, started

NAME = re.compile(r"[0-9]+\.[0-9]+")


def traces(page: str) -> list[tuple[str, dict[str, Any]]]:
    """(chart, trace) of every chart of a page."""
    found = re.findall(r'data-chart="([^"]+)".*?<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return [(name, trace) for name, drawn in found for trace in json.loads(html.unescape(drawn))["data"]]


def neurons(trace: dict[str, Any]) -> int:
    """How many of its points are neurons: by the point's name, beside it or in what a click opens."""
    if "markers" not in trace.get("mode", "") or trace.get("hoverinfo") == "skip":
        return 0
    beside = [*(trace.get("customdata") or ()), *(trace.get("text") or ())]
    words = (str(part) for point in beside for part in (point if isinstance(point, list) else [point]))
    return len({word for word in words if NAME.fullmatch(word)})


@pytest.fixture(scope="module")
def sweep(client: TestClient) -> str:
    return str(finished(client, started(client, **SMALL))["id"])


@pytest.mark.parametrize(
    ("path", "charts"),
    [
        ("/atlas", {"map"}),
        ("/induction", {"ranking"}),
        ("/compare", {"side0"}),
        ("/sweeps/{sweep}", {"overview"}),
        ("/sweeps/{sweep}/figures?group=entropy", {"figure-1", "figure-2a", "figure-2b", "figure-2e", "figure-2f"}),
        ("/sweeps/{sweep}/figures?group=frequency", {"figure-8"}),
    ],
)
def test_a_neuron_tells_who_it_is(client: TestClient, sweep: str, path: str, charts: set[str]) -> None:
    assert client.get("/api/v1/models/tiny-gpt2/neurons").is_success  # the atlas is there
    page = client.get(path.format(sweep=sweep))
    assert page.status_code == 200, page.text
    told = {name: trace for name, trace in traces(page.text) if neurons(trace) > 3}
    assert charts <= told.keys()
    for name, trace in told.items():
        said = trace["hovertemplate"] + json.dumps(
            [trace.get(key) for key in ("text", "hovertext", "customdata")], ensure_ascii=False
        )
        for word in ("norm", "LogitVar", "ρ"):
            assert word.lower() in said.lower(), (name, word)
