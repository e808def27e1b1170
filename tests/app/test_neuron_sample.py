"""A neuron over the sample: its page shows what the rows so far say, how many there are to read, and asks again."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from analysis.progress import Progress
from app.core.request import NothingAsked
from app.neuron import answer

PAGE = "/m/tiny-gpt2/n/1.3"
PANEL = {"HX-Request": "true", "HX-Target": "section#sample", "HX-Source": "section#sample"}
AGAIN = 'hx-trigger="load delay:1s"'


def test_each_view_is_over_the_rows_so_far_and_the_last_over_all(client: TestClient) -> None:
    host: Any = client.app.state.host  # type: ignore[attr-defined]
    ((_, resident),) = host.entry("tiny-gpt2").replicas
    items = list(answer.sample_so_far(resident, NothingAsked(), neuron="1.3"))
    views, stages = items[::2], items[1::2]
    rows = [len(ids) for ids in answer.sample_rows(resident)]
    assert len(rows) > 1
    assert [view.n_tokens for view in views if not isinstance(view, Progress)] == [
        sum(rows[: i + 1]) for i in range(len(rows))
    ]
    assert stages == [Progress("reading the sample", i + 1, len(rows)) for i in range(len(rows))]
    *before, whole = answer.sample(resident, NothingAsked(), neuron="1.3")
    assert whole == views[-1]
    assert before == stages


def test_the_panel_asks_again_until_it_has_the_whole_and_begins_nothing_anew(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/api/v1/models/tiny-gpt2/neurons").is_success  # the atlas is there
    whole = client.get("/api/v1/models/tiny-gpt2/neurons/1.3/sample").json()
    plain, rows = answer.sample_row, list[object]()
    monkeypatch.setattr(answer, "sample_row", lambda *args: (rows.append(args), plain(*args))[1])
    monkeypatch.setattr("app.neuron.routes.FIRST_WAIT", 0.0)
    page = client.get(PAGE, headers=PANEL).text
    while AGAIN in page:  # which each says that is not whole
        assert "rows of the" in page
        page = client.get(PAGE, headers=PANEL).text
    assert f"{whole['n_tokens']} tokens of sample.jsonl" in page
    assert "rows of the" not in page
    assert page == client.get(PAGE, headers=PANEL).text
    assert len(rows) == 3
