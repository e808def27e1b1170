"""A link tells the story of every kind of answer: caption, what was changed, text, what follows, table, charts."""

import base64
import gzip
import html
import json
import random
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.core.packed import fitting
from app.core.request import PromptRequest
from app.registry import OTHERS, QUESTIONS
from tests.app.exported import ASKED, TEXT, URL

CHANGED = {"trace", "joint", "dose", "dial", "induction", "induction/ablation", "induction/natural"}
"""Of those asked, the ones that do something to the model all over their answer."""

AT_A_TOKEN = {"effects", "heatmap", "joint", "dose", "ledger", "lens", "why", "why/compare", "circuit"}


def test_every_kind_that_has_a_permalink_is_told() -> None:
    assert [question.name for question in QUESTIONS.values() if question.permalink and question.tells is None] == []
    assert all(callable(other.tells.function) for other in OTHERS.values())


@pytest.mark.parametrize("path", ASKED)
def test_a_link_tells_the_story(path: str, client: TestClient) -> None:
    answer = client.post(f"{URL}/{path}?store=true", json=ASKED[path]).json()
    question = next(each for each in QUESTIONS.values() if each.path == path)
    link = answer["permalink"]
    saved = client.get(link, params={"format": "json"}).json()
    assert saved["caption"].endswith("."), saved["caption"]
    assert not re.search(r"None|nan|\{|\bfloat\b", saved["caption"]), saved["caption"]
    for page in (client.get(link, params={"plain": "true"}).text, client.get(f"{link}/page.html").text):
        told = html.unescape(page)
        assert saved["caption"] in told
        assert ("What was changed in the model" in told) == (path in CHANGED)
        has_text = issubclass(question.request, PromptRequest) or path == "induction/ablation"
        assert ('class="strip told-strip"' in told) or not has_text
        assert ("<h2>After <" in told) == (path in AT_A_TOKEN)
        for chart in question.charts:
            assert f'data-chart="{chart}"' in told
        if "1.5" in str(answer.get("rows")) and path in ("effects", "joint", "heatmap"):
            assert '<th scope="col">Label</th>' in told
            assert ">ρ</th>" in told
    if issubclass(question.request, PromptRequest) and path not in ("trace", "generate", "dial"):
        assert client.get(f"{link}/page.html").text.count('class="tok"') >= len(TEXT.split())


def test_a_shared_prompt_page_has_label_and_rho(client: TestClient) -> None:
    link = client.post("/share", data={"text": TEXT}, follow_redirects=False).headers["location"]
    atlas = {row["neuron"]: row for row in rows_of(client)}
    page = client.get(link).text
    for row in client.get(link, params={"format": "json"}).json()["result"]["effects"]["rows"][:5]:
        cells = page.partition(f'data-neuron="{row["neuron"]}"')[2].partition("</tr>")[0]
        assert f"{atlas[row['neuron']]['rho']:.2f}" in cells
        assert "…" not in cells
    assert ">ρ</th>" in client.get(f"{link}/page.html").text


def rows_of(client: TestClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.get(f"{URL}/neurons", params={"layer": 1, "limit": 1000}).json()["rows"]
    return rows


def test_a_file_of_very_many_numbers_has_as_many_digits_as_fit_and_says_so() -> None:
    """1,000 neurons at 224 tokens, to three digits; few numbers keep every digit."""
    rng = random.Random(0)
    many = {"rows": [[rng.gauss(0.0, 0.01) for _ in range(224)] for _ in range(1000)]}
    written, digits = fitting(many, whole=True)
    assert digits == 3
    assert len(written) < 650_000  # with all digits it would be 3 MB
    read = json.loads(gzip.decompress(base64.b64decode(written)))
    assert read["rows"][3][5] == float(f"{many['rows'][3][5]:.3g}")
    few = {"rows": many["rows"][:4]}
    written, digits = fitting(few, whole=True)
    assert digits is None
    assert json.loads(gzip.decompress(base64.b64decode(written))) == few
    assert fitting(few)[1] == 6
