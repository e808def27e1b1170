"""A permalink shows what was asked, computed again, and says truthfully whether that is still what it was."""

import base64
import gzip
import json
import shutil
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from starlette.testclient import TestClient

from app.lab.comparison import compare, differences
from tests import tiny

URL = "/api/v1/models/tiny-gpt2"
TEXT = "The cat <b>sat</b>"


def test_a_trace_is_found_again_under_its_hash_with_the_same_numbers(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    body = {"text": TEXT, "interventions": [{"neuron": "1.5", "mode": "zero"}], "neurons": ["0.3"]}
    answer = client.post(f"{URL}/trace?store=true", json=body).json()
    assert answer["permalink"] == "/r/" + answer["provenance"]["request_sha256"]
    saved = client.get(answer["permalink"], params={"format": "json"}).json()
    assert (saved["verdict"], saved["largest_difference"], saved["text"]) == ("recomputed", 0.0, TEXT)
    assert saved["result"]["clean"] == answer["clean"]
    assert saved["result"]["intervened"] == answer["intervened"]
    assert saved == client.get("/api/v1/results/" + saved["hash"][:12]).json()  # also by a beginning


def test_text_and_its_ids_are_one_result_and_other_options_another(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    one = client.post(f"{URL}/effects?store=true", json={"text": TEXT, "limit": 3}).json()
    ids = one["provenance"]["token_ids"]
    same = client.post(f"{URL}/effects?store=true", json={"token_ids": ids, "limit": 3}).json()
    other = client.post(f"{URL}/effects?store=true", json={"token_ids": ids, "limit": 4}).json()
    assert one["permalink"] == same["permalink"] != other["permalink"]
    assert client.get("/api/v1/results").json()["total"] == 2


class Addresses(HTMLParser):
    """Whatever an element of a file would fetch or lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "action", "data")]


def test_every_kind_can_be_opened_as_page_json_csv_and_file(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    links = [
        client.post(f"{URL}/{kind}?store=true", json={"text": TEXT, **more}).json()["permalink"]
        for kind, more in (("trace", {}), ("effects", {}), ("joint", {"neurons": ["1.5", "1.6"]}), ("ledger", {}))
    ]
    for link, chart in zip(links, ("curves", None, "joint", "ledger"), strict=True):
        page = client.get(link)
        assert page.status_code == 200
        assert "Recomputed" in page.text
        assert "<b>sat</b>" not in page.text
        assert client.get(link, params={"format": "csv"}).status_code == 200
        file = client.get(f"{link}/page.html")
        assert "<b>sat</b>" not in file.text
        assert Addresses(file.text).found == []
        assert ('id="plotly-packed"' in file.text) == (chart is not None)  # most of a file, that only a chart needs
        assert len(file.content) < 1_500_000
        assert chart is None or f'data-chart="{chart}"' in file.text


def test_sharing_the_prompt_page_leads_to_the_same_page(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    form = {"text": TEXT, "do": "1.5:zero 0.3:value=1@2", "pos": "3", "baseline": "zero"}
    moved = client.post("/share", data=form, follow_redirects=False)
    link = moved.headers["location"]
    assert moved.status_code == 303
    assert "cat" not in link
    shown = client.get(link, params={"format": "json"}).json()
    assert shown["verdict"] == "recomputed", shown["sentence"]
    assert shown["result"]["state"]["do"] == form["do"]
    page = client.get(link)
    assert "Recomputed" in page.text
    assert 'id="strip"' in page.text
    assert client.get(link, params={"plain": "true"}).status_code == 200


def test_a_shared_page_tells_what_holds_in_its_authors_words_or_its_own(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    form = {"text": TEXT, "do": "1.5:zero", "pos": "3", "baseline": "zero"}
    link = client.post("/share", data=form, follow_redirects=False).headers["location"]
    saved = client.get(link, params={"format": "json"}).json()
    first = max(saved["result"]["effects"]["rows"], key=lambda row: abs(row["d_entropy"]["total"]))
    assert saved["caption"].startswith("After “")
    assert f"; {first['neuron']} holds it " in saved["caption"]
    file = client.get(f"{link}/page.html").text
    for said in (saved["caption"], "neuron 1.5: activation set to 0", "What each last-layer neuron does", "Next token"):
        assert said in file, said
    numbers = gzip.decompress(base64.b64decode(file.partition('id="numbers">')[2].partition("</script>")[0]))
    assert json.loads(numbers)["effects"]["rows"] == saved["result"]["effects"]["rows"]  # unrounded
    words = {"title": "Two <i>words</i>", "caption": "What <script>I</script> saw"}
    assert client.post(f"{link}/caption", data=words, follow_redirects=False).status_code == 303
    told = client.get(link, params={"format": "json"}).json()
    assert (told["title"], told["caption"]) == (words["title"], words["caption"])
    for page in (link, f"{link}?plain=true", f"{link}/page.html"):
        text = client.get(page).text
        assert "Two &lt;i&gt;words" in text
        assert "<script>I" not in text
    assert client.post(f"{link}/caption", data={"title": "x" * 121}).status_code == 422
    assert client.post(f"{link}/caption", data={"title": "", "caption": ""}, follow_redirects=False).status_code == 303
    assert client.get(link, params={"format": "json"}).json()["caption"] == saved["caption"]


def test_an_address_of_ones_own_machine_is_said(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    link = client.post("/share", data={"text": TEXT}, follow_redirects=False).headers["location"]
    here, there = "http://127.0.0.1:8000", "http://testserver"
    assert "nobody else can open it" in client.get(here + link).text
    assert "nobody else can open it" not in client.get(there + link).text


def test_looking_stores_nothing(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    for path in ("/", "/tour", "/effects", "/why", "/nullspace", "/induction", "/atlas", "/frequency", "/selfcheck"):
        assert client.get(path).status_code < 500, path
    client.post("/", data={"text": TEXT, "do": "1.5:zero"})
    assert client.get("/api/v1/results").json()["total"] == 0


def test_other_weights_are_said_and_no_model_is_cached(
    make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "other" / "tiny-gpt2"
    before = make_client(data_dir=data).post(f"{URL}/trace?store=true", json={"text": TEXT}).json()
    shutil.copytree(model_folder, folder)
    tiny.hf_model("gpt2", dtype=torch.float32, seed=1).save_pretrained(folder)
    saved = make_client(data_dir=data, models=(str(folder),)).get(before["permalink"], params={"format": "json"}).json()
    assert saved["verdict"] == "differs"
    assert saved["largest_difference"] > 1e-3
    assert any("other weights" in what for what in saved["changed"])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(model_folder, elsewhere)
    cached = make_client(data_dir=data, models=(str(elsewhere),)).get(before["permalink"], params={"format": "json"})
    assert cached.json()["verdict"] == "cached"
    assert cached.json()["result"]["clean"] == before["clean"]


def test_deleting_takes_it_away(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    link = client.post(f"{URL}/trace?store=true", json={"text": TEXT}).json()["permalink"]
    name = link.removeprefix("/r/")
    assert client.delete(f"/api/v1/results/{name}").json()["total"] == 0
    gone = client.get(link, headers={"accept": "application/json"})
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "unknown_result"


def test_a_database_that_cannot_be_written_costs_the_permalink_not_the_answer(
    make_client: Callable[..., TestClient],
) -> None:
    import sqlite3

    client = make_client()
    database = client.app.state.database  # type: ignore[attr-defined]
    with sqlite3.connect(database.path) as other:
        other.execute("PRAGMA query_only=ON")
    # A full disk, as SQLite reports it: no page may be added any more.
    from sqlalchemy import event

    def full(connection: object, *_: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # type: ignore[attr-defined]

    event.listen(database.engine, "checkout", full)
    answer = client.post(f"{URL}/trace?store=true", json={"text": "x" * 30, "top_k": 50})
    assert answer.status_code == 200
    assert answer.json()["permalink"] is None
    note = client.post("/api/v1/notes", json={"target": "neuron:m/1.1", "text": "n" * 20_000})
    assert note.status_code == 503
    assert note.json()["error"]["code"] == "database_unavailable"
    event.remove(database.engine, "checkout", full)


def test_differences_name_the_place() -> None:
    before = {"a": [1.0, {"b": 2.0}], "provenance": {"weights_sha256": "x" * 64, "device": "cpu"}}
    after = json.loads(json.dumps(before))
    after["a"][1]["b"] = 3.0
    assert list(differences(before, after)) == [("a[1].b", 2.0, 3.0)]
    found = compare(before, after)
    assert (found["verdict"], found["differs_at"], found["largest_difference"]) == ("differs", "a[1].b", 0.5)
    after["a"][1]["b"] = 2.0 + 1e-7
    assert compare(before, after)["verdict"] == "recomputed"
    after["a"] = [1.0]
    assert compare(before, after)["differs_at"] == "a"


def test_a_table_that_was_not_ready_then_is_no_difference() -> None:
    before = {"trace": {"x": 1.0}, "effects": None, "effects_problem": {"code": "baseline_not_ready"}}
    after = {"trace": {"x": 1.0}, "effects": {"rows": []}, "effects_problem": None}
    assert compare(before, after)["verdict"] == "recomputed"
    after["trace"] = {"x": 2.0}
    assert compare(before, after)["verdict"] == "differs"


def test_a_heat_map_has_a_permalink_by_api_and_page(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    body = {"text": TEXT, "limit": 48, "baseline": "zero"}
    by_api = client.post(f"{URL}/heatmap?store=true", json=body).json()
    assert by_api["permalink"] == "/r/" + by_api["provenance"]["request_sha256"]
    by_page = client.post("/effects", data={"text": TEXT, "panel": "heatmap", "baseline": "zero", "limit": "48"},
                          params={"format": "json"}).json()  # fmt: skip
    assert by_page["heatmap"]["permalink"] == by_api["permalink"]
    saved = client.get(by_api["permalink"], params={"format": "json"}).json()
    assert (saved["verdict"], saved["largest_difference"], saved["text"]) == ("recomputed", 0.0, TEXT)
    assert saved["result"]["rows"] == by_api["rows"]
    page = client.get(by_api["permalink"])
    assert 'data-chart="heatmap"' in page.text
    assert "<b>sat</b>" not in page.text


def test_a_finished_sweep_has_a_permalink_that_outlives_it(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    body = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}
    name = client.post("/api/v1/sweeps", json=body).json()["id"]
    view = finished(client, name)
    saved = client.get(view["permalink"], params={"format": "json"}).json()
    assert saved["verdict"] == "cached"
    assert "weights are the same" in saved["sentence"]
    assert saved["result"]["rows"] == view["rows"]
    assert saved["request"]["options"]["corpus"] == view["manifest"]["corpus"]["sha256"]
    assert client.get(view["permalink"]).status_code == 200
    again = client.post("/api/v1/sweeps", json=body).json()["id"]
    assert finished(client, again)["permalink"] == view["permalink"]
    assert client.delete(f"/api/v1/sweeps/{name}").status_code == 204
    assert client.get(view["permalink"], params={"format": "json"}).json()["result"]["rows"] == view["rows"]


def finished(client: TestClient, name: str) -> dict[str, Any]:
    """Asking is all that one can do; the job runs on a thread of the app."""
    while True:
        view = client.get(f"/api/v1/sweeps/{name}").json()
        if view["state"] == "finished":
            return view
        assert view["state"] in ("queued", "running"), view["progress"]
        time.sleep(0.02)


def test_keys_that_follow_from_more_than_the_request_are_not_compared() -> None:
    before, after = {"rows": [{"x": 1.0, "labels": []}]}, {"rows": [{"x": 1.0, "labels": ["entropy"]}]}
    assert compare(before, after)["verdict"] == "differs"
    assert compare(before, after, frozenset({"labels"}))["verdict"] == "recomputed"
