"""Sweeps through the API and pages: start, progress, result, cancel, resume, delete, restart, uploads."""

from __future__ import annotations

import gzip
import html
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from analysis.calibration_study import Study
from analysis.kernels.eager import Eager
from analysis.types import InputError
from app.core.settings import Settings
from app.main import create_app
from app.sweep import estimate as sweep_estimate
from app.sweep.store import STAGES
from tests.app.served import until
from tests.tolerance import near, of_pass

SMALL = {"rows": 2, "length": 24, "shard_rows": 1, "bootstrap": 20, "sample_tokens": 16}


def finished(client: TestClient, sweep_id: str) -> dict[str, Any]:
    until(lambda: client.get(f"/api/v1/sweeps/{sweep_id}").json()["state"] not in ("queued", "running"))
    view = client.get(f"/api/v1/sweeps/{sweep_id}?limit=1000").json()
    assert view["state"] == "finished", view["progress"]
    return view


def started(client: TestClient, **changes: Any) -> str:
    answer = client.post("/api/v1/sweeps", json={**SMALL, **changes})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def done(client: TestClient) -> dict[str, Any]:
    """One finished sweep of the shared app."""
    return finished(client, started(client))


def test_a_sweep_from_start_to_table(client: TestClient, done: dict[str, Any]) -> None:
    assert (done["n_rows"], done["n_neurons"], done["total"]) == (2, 40, 40)
    assert done["manifest"]["corpus"]["rows"] == 2
    values = [row["total"]["abs_entropy"] for row in done["rows"]]
    assert values == sorted(values, reverse=True)
    row = done["rows"][0]
    assert row["neuron"].startswith("1.")
    low, high = row["intervals"]["total.abs_entropy"]
    assert low <= row["total"]["abs_entropy"] <= high
    assert row["frequency"] is not None
    assert done["progress"]["fraction"] == 1.0
    listed = client.get("/api/v1/sweeps").json()["sweeps"]
    assert done["id"] in [sweep["id"] for sweep in listed]
    assert client.get(f"/api/v1/jobs/{done['id']}").json()["result"] == f"/api/v1/sweeps/{done['id']}"


def test_a_sweep_has_a_name_its_own_or_what_it_holds(client: TestClient, done: dict[str, Any]) -> None:
    assert done["ref"]["name"] == "every last-layer neuron over sample text of tiny-gpt2, 2 rows, set to the mean"
    named = client.post("/api/v1/sweeps", json={**SMALL, "name": "<b>Mine</b>", "neurons": ["1.3"]}).json()
    assert named["name"] == "<b>Mine</b>"
    for page in (client.get("/sweeps").text, client.get(f"/sweeps/{named['id']}").text):
        assert "&lt;b&gt;Mine" in page
    finished(client, named["id"])
    client.delete(f"/api/v1/sweeps/{named['id']}")


def test_a_running_sweep_already_draws(client: TestClient, done: dict[str, Any]) -> None:
    """The runner is stepped by hand: after the first of two shards there is the half that it gives."""
    sweeps = client.app.state.sweeps  # type: ignore[attr-defined]
    job = sweeps.jobs.get(done["id"])
    (data_dir(client) / "sweeps" / "half").mkdir()
    steps = sweeps._runner("half", job.model, job.config)
    while (step := next(steps)).stage != STAGES["effects"] or step.done < 1:
        pass
    next(steps)
    half = sweeps._partials["half"]
    assert (half.n_rows, len(half.neurons)) == (1, 40)
    assert [step.done for step in steps][-1] == 2
    assert "half" not in sweeps._partials
    shutil.rmtree(data_dir(client) / "sweeps" / "half")


def test_sort_filter_and_pages(client: TestClient, done: dict[str, Any]) -> None:
    url = f"/api/v1/sweeps/{done['id']}"
    asked = client.get(url, params={"sort": "neuron", "order": "asc", "limit": 3, "offset": 4}).json()
    assert [row["neuron"] for row in asked["rows"]] == ["1.4", "1.5", "1.6"]
    some = client.get(url, params={"min_total.abs_loss": done["rows"][5]["total"]["abs_loss"]}).json()
    assert 0 < some["total"] < 40
    assert client.get(url, params={"sort": "nothing"}).status_code == 422
    assert client.get(url, params={"min_nothing": 1}).status_code == 422


@pytest.mark.parametrize(
    "name", ["1", "2a", "2b", "2c", "2d", "2e", "2f", "3a", "3b", "3c", "4a", "4b", "4c", "6", "7", "8"]
)
def test_every_figure_has_points_and_a_caption(client: TestClient, done: dict[str, Any], name: str) -> None:
    view = client.get(f"/api/v1/sweeps/{done['id']}/figures/{name}").json()
    assert view["caption"]
    assert "entropy neurons" not in view["caption"]
    empty = name in ("2c", "3b", "7") and "None found" in view["caption"]
    assert empty or any(point["y"] is not None for point in view["rows"])
    page = client.get(f"/sweeps/{done['id']}/figures/{name}")
    assert page.status_code == 200
    assert view["caption"][:40] in html.unescape(page.text)
    lines = client.get(f"/sweeps/{done['id']}/figures/{name}", params={"format": "csv"}).text.splitlines()
    assert len(lines) == len(view["rows"]) + 1


def test_figures_show_the_half_that_no_set_was_chosen_on(client: TestClient, done: dict[str, Any]) -> None:
    result = client.app.state.sweeps.result(done["id"])  # type: ignore[attr-defined]
    points = client.get(f"/api/v1/sweeps/{done['id']}/figures/2b").json()["rows"]
    for axis, name in (("x", "total.abs_loss"), ("y", "direct.abs_loss")):
        column = result.column(f"showing.{name}")
        assert {p["label"]: p[axis] for p in points} == {
            str(neuron): column[place] for neuron, place in result.place.items()
        }


def test_figure_6_compares_runs_of_equal_length(client: TestClient, done: dict[str, Any], model_folder: Path) -> None:
    url = f"/api/v1/sweeps/{done['id']}/figures/6"
    alone = client.get(url).json()
    assert {point["series"] for point in alone["rows"]} == {"this model"}
    assert "No run with dropout" in alone["notes"][0]
    spectra, about = model_folder / "dropout_spectrum.npy", model_folder / "dropout_spectrum.json"
    np.save(spectra, np.stack([np.linspace(3, 0.1, 16), np.linspace(2, 1, 16)]))
    about.write_text('{"tokens": 1500}')
    try:
        view = client.get(url).json()
    finally:
        spectra.unlink()
        about.unlink()
    curves = {
        name: [p["y"] for p in view["rows"] if p["series"] == name] for name in ("without dropout", "with dropout")
    }
    assert curves["without dropout"] == near(np.linspace(3, 0.1, 16).tolist(), 1)
    assert curves["with dropout"] == near(np.linspace(2, 1, 16).tolist(), 1)
    assert "same 1,500 tokens" in view["notes"][0]


def test_a_sweep_of_other_weights_keeps_its_table_and_draws_no_figure(client: TestClient, done: dict[str, Any]) -> None:
    manifest = data_dir(client) / "sweeps" / done["id"] / "manifest.json"
    before = manifest.read_text()
    manifest.write_text(before.replace(done["manifest"]["weights_sha256"], "0" * 64))
    try:
        for path in ("figures/1", "calibration"):
            answer = client.get(f"/api/v1/sweeps/{done['id']}/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "other_weights")
        page = client.get(f"/sweeps/{done['id']}")
        assert page.status_code == 200
        assert 'data-chart="overview"' not in page.text
    finally:
        manifest.write_text(before)


def test_one_neuron_with_its_examples(client: TestClient, done: dict[str, Any]) -> None:
    name = done["rows"][0]["neuron"]
    view = client.get(f"/api/v1/sweeps/{done['id']}/neurons/{name}").json()
    assert sum(view["histogram"]) == done["n_tokens"]
    assert view["row"] == done["rows"][0]
    largest = next(found for found in view["lists"] if (found["quantity"], found["sign"]) == ("activation", 1))
    assert largest["examples"][0]["value"] == near(view["high"], 1, dtype=torch.float32)
    assert largest["examples"][0]["token"]
    for path in ("1.99", "0.3", "x"):
        assert client.get(f"/api/v1/sweeps/{done['id']}/neurons/{path}").status_code in (404, 422)


def test_calibration(client: TestClient, done: dict[str, Any]) -> None:
    view = client.get(f"/api/v1/sweeps/{done['id']}/calibration", params={"controls": 2, "bins": 5, "top": 3}).json()
    clean, ablated = view["runs"][:2]
    assert [run["name"] for run in view["runs"]] == ["clean", "ablated", "random 1", "random 2"]
    assert 1 <= len(ablated["neurons"]) <= 3
    assert view["note"]
    assert abs(clean["loss"] - done["clean"]["loss"]) < of_pass(dtype=torch.float32)
    assert sum(found["count"] for found in clean["bins"]) == view["n_tokens"] == done["n_tokens"]
    assert (clean["ece_change"], clean["neurons"], clean["norms"]) == (None, [], [])
    assert ablated["ece_change"] == near(ablated["ece"] - clean["ece"], 2, scale=1)
    for run in view["runs"]:
        low, high = run["ece_interval"]
        assert 0 <= low <= run["ece"] <= high
        assert run["neurons"] == (ablated["neurons"] if run is ablated else [])
    for control in view["runs"][2:]:
        assert control["norms"] == near(ablated["norms"], 64, scale=1, dtype=torch.float32)
    assert {each["quantity"] for each in view["standings"]} == {"ece", "loss", "entropy"}
    assert all(each["of"] == 3 and each["p"] is None for each in view["standings"])  # two controls give no p
    assert view["cumulative"][0]["n"] == 0
    assert client.get(f"/sweeps/{done['id']}/calibration").status_code == 200


def test_calibration_is_computed_once(
    client: TestClient, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again where something else is asked."""
    path, asked = f"/api/v1/sweeps/{done['id']}/calibration", {"controls": 1, "bins": 6, "rows": 2}
    first = client.get(path, params=asked).json()

    def refuse(*_: object) -> None:
        raise InputError("computed again")

    monkeypatch.setattr(Study, "run", refuse)
    assert client.get(path, params=asked).json() == first
    assert client.get(path, params={**asked, "bins": 7}).status_code == 422


def test_compare(client: TestClient, done: dict[str, Any]) -> None:
    other = finished(client, started(client, baseline="zero"))
    query = {"a": done["id"], "b": other["id"], "column": "total.abs_loss"}
    view = client.get("/api/v1/sweeps/compare", params=query).json()
    row = view["rows"][0]
    assert row["difference"] == near(row["b"] - row["a"], 2, scale=abs(row["a"]) + abs(row["b"]))
    assert view["total"] == 40
    page = client.get("/sweeps/compare", params=query)
    assert page.status_code == 200
    assert "mean |Δ loss|, nats" in page.text
    assert client.get("/api/v1/sweeps/compare", params={**query, "b": "none"}).status_code == 404


def test_pages(client: TestClient, done: dict[str, Any]) -> None:
    for path in (
        "/sweeps",
        f"/sweeps/{done['id']}",
        f"/sweeps/{done['id']}/figures",
        f"/sweeps/{done['id']}/neurons/1.3",
    ):
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
    fragment = client.get(
        f"/sweeps/{done['id']}?sort=neuron&order=asc", headers={"HX-Request": "true", "HX-Target": "section#neurons"}
    )
    assert fragment.text.lstrip().startswith('<section class="panel" id="neurons"')
    results = client.get(f"/sweeps/{done['id']}", headers={"HX-Request": "true", "HX-Target": "div#results"})
    assert results.text.lstrip().startswith('<div id="results">')  # finished: it asks no more
    assert 'data-chart="overview"' in results.text
    assert client.get("/sweeps/none").status_code == 404


def test_the_form_estimates_and_starts(client: TestClient) -> None:
    form = {
        "rows": "2",
        "length": "24",
        "neurons": "1.3, 1.5",
        "baseline": "zero",
        "seed": "1",
        "model": "",
        "corpus": "sample",
    }
    estimate = client.post("/sweeps/estimate", data=form)
    assert estimate.status_code == 200
    assert "Memory beside the model" in estimate.text
    answer = client.post("/sweeps", data=form, follow_redirects=False)
    assert answer.status_code == 303
    view = finished(client, answer.headers["location"].rsplit("/", 1)[1])
    assert [row["neuron"] for row in view["rows"]] in (["1.3", "1.5"], ["1.5", "1.3"])
    assert view["config"]["baseline"] == "zero"
    assert client.post("/sweeps", data={**form, "rows": "none"}).status_code == 422


def test_estimate_counts_what_a_sweep_then_does(client: TestClient, done: dict[str, Any]) -> None:
    view = client.post("/api/v1/sweeps/estimate", json=SMALL).json()
    assert (view["rows"], view["neurons"]) == (2, 40)
    assert view["seconds"] > 0
    assert view["at_most"] is False


def test_what_the_first_run_prepares_is_not_charged_to_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 10.5])
    monkeypatch.setattr("app.sweep.estimate.time.perf_counter", lambda: next(clock))
    assert sweep_estimate._timed(lambda: "found") == (0.5, "found")


def test_an_estimate_made_while_kernels_are_compiled_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Eager, "compiling", True)
    assert client.post("/api/v1/sweeps/estimate", json=SMALL).json()["at_most"] is True
    assert "at most" in client.post("/sweeps/estimate", data={"rows": "2", "length": "24"}).text


@pytest.mark.parametrize(
    "body",
    [
        {"baseline": "median"},
        {"baseline": "percentile:101"},
        {"neurons": []},
        {"neurons": ["1.400"]},
        {"rows": 0},
        {"length": 4000},
        {"corpus": "../../etc/passwd"},
        {"corpus": "0123456789ab"},
        {"model": "none"},
        {"unknown": 1},
        {"token_filter": {"first": 500}},
    ],
)
def test_what_cannot_be_swept_is_refused_at_once(client: TestClient, body: dict[str, Any]) -> None:
    before = len(client.get("/api/v1/sweeps").json()["sweeps"])
    answer = client.post("/api/v1/sweeps", json={**SMALL, **body})
    assert answer.status_code in (404, 422), answer.text
    assert answer.json()["error"]["message"]
    assert len(client.get("/api/v1/sweeps").json()["sweeps"]) == before


@pytest.fixture
def alone(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client(max_upload_bytes=2_000_000, max_corpus_characters=3_000_000)


def data_dir(client: TestClient) -> Path:
    settings: Settings = client.app.state.settings  # type: ignore[attr-defined]
    return settings.data_dir


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("a.txt", "Übung".encode("latin-1"), 422, "UTF-8"),
        ("a.txt", b"\x00\x01binary", 422, "binary"),
        ("a.txt", b"", 422, "no text"),
        ("a.jsonl", b"{}", 422, "has no text"),
        ("a.jsonl", json.dumps({"text": "x" * 1_900_000}).encode()[:-2], 422, "not JSON"),
        ("a.zip", b"PK\x03\x04", 422, "no kind of text"),
        ("../../a.txt\n", b"text", 422, "no kind of text"),
        ("bomb.txt.gz", gzip.compress(b"0" * 40_000_000), 422, "more than"),
        ("a.txt.gz", b"not gzip", 422, "cannot be read"),
        ("a.txt", b"x" * 2_000_001, 413, "bytes"),
    ],
)
def test_bad_uploads_leave_nothing_behind(alone: TestClient, name: str, content: bytes, status: int, said: str) -> None:
    answer = alone.post("/api/v1/corpora", params={"name": name}, content=content)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    folder = data_dir(alone) / "corpora"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_an_upload_is_swept_and_removed_with_its_sweep(alone: TestClient) -> None:
    text = "\n".join(json.dumps({"text": f"Document {i} is long enough for a row."}) for i in range(3))
    found = alone.post("/api/v1/corpora", params={"name": "mine.jsonl"}, content=text.encode()).json()
    assert found["n_documents"] == 3
    sweep_id = started(alone, corpus=found["id"], rows=None)
    view = finished(alone, sweep_id)
    assert view["ref"]["source"] == "mine.jsonl"
    assert view["manifest"]["corpus"]["documents"] == 3
    assert alone.delete(f"/api/v1/sweeps/{sweep_id}").status_code == 204
    assert list((data_dir(alone) / "corpora").iterdir()) == []
    assert list((data_dir(alone) / "sweeps").iterdir()) == []
    assert alone.get(f"/api/v1/sweeps/{sweep_id}").status_code == 404


def test_the_page_takes_an_upload(alone: TestClient) -> None:
    answer = alone.post(
        "/sweeps/text", files={"file": ("mine.txt", b"A text that is long enough.")}, follow_redirects=False
    )
    assert answer.status_code == 303
    page = alone.get(answer.headers["location"])
    assert "mine.txt" in page.text
    assert alone.post("/sweeps/text", data={}).status_code == 422


def test_in_a_browser_an_upload_goes_on_or_says_beside_itself_what_is_wrong(alone: TestClient) -> None:
    htmx = {"HX-Request": "true", "HX-Target": "div#upload-error"}
    good = alone.post("/sweeps/text", files={"file": ("mine.txt", b"A text that is long enough.")}, headers=htmx)
    assert good.headers["HX-Redirect"].startswith("/sweeps?corpus=")
    bad = alone.post("/sweeps/text", files={"file": ("mine.txt", b"\xdcbung")}, headers=htmx)
    assert bad.status_code == 422
    assert bad.text.startswith('<div class="error"')
    assert "mine.txt is not UTF-8 text" in bad.text
    wrong = alone.post("/sweeps", data={"neurons": "7.1"}, headers={**htmx, "HX-Target": "div#estimate"})
    assert wrong.text.startswith('<div class="error"')


def test_nothing_left_after_filtering_is_said_before_anything_is_queued(alone: TestClient) -> None:
    found = alone.post("/api/v1/corpora", params={"name": "short.txt"}, content=b"ab").json()
    answer = alone.post("/api/v1/sweeps", json={**SMALL, "corpus": found["id"]})
    assert answer.status_code == 422
    assert "after filtering" in answer.json()["error"]["message"]


@pytest.fixture
def restarted(make_settings: Callable[..., Settings]) -> Iterator[Callable[[], TestClient]]:
    """Apps one after another on one data folder."""
    settings = make_settings()
    opened: list[TestClient] = []

    def restart() -> TestClient:
        if opened:
            opened.pop().__exit__(None, None, None)
        client = TestClient(create_app(settings))
        client.__enter__()
        opened.append(client)
        for entry in client.app.state.host.entries.values():  # type: ignore[attr-defined]
            entry.settled.wait()
        return client

    yield restart
    opened.pop().__exit__(None, None, None)


def test_cancel_resume_and_a_restart_in_the_middle(restarted: Callable[[], TestClient]) -> None:
    client = restarted()
    sweep_id = started(client, rows=None, shard_rows=1)
    until(lambda: client.get(f"/api/v1/sweeps/{sweep_id}").json()["progress"]["done"] > 0)
    assert client.delete(f"/api/v1/sweeps/{sweep_id}").status_code == 409
    client.post(f"/api/v1/sweeps/{sweep_id}/cancel")
    until(lambda: client.get(f"/api/v1/jobs/{sweep_id}").json()["state"] in ("cancelled", "finished"))
    client.post(f"/api/v1/sweeps/{sweep_id}/resume")
    client = restarted()  # nobody asks for it: it goes on
    resumed = finished(client, sweep_id)
    again = finished(client, started(client, rows=None, shard_rows=1))
    assert resumed["rows"] == again["rows"]
    assert client.post(f"/api/v1/sweeps/{sweep_id}/resume").status_code == 409
