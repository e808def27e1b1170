"""Notes, lists and pins: who and when, history, links, export and import."""

import json
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from app.core.notes import pieces

NEURON = "neuron:tiny-gpt2/1.5"
JSON = "application/json"


@pytest.fixture
def lab(client: TestClient) -> TestClient:
    """The module's app: each test looks only at what it wrote itself."""
    return client


def test_a_note_keeps_its_history(lab: TestClient) -> None:
    note = lab.post("/api/v1/notes", json={"target": NEURON, "text": "first"}).json()
    assert (note["author"], note["text"]) == ("local", "first")
    edited = lab.put(f"/api/v1/notes/{note['id']}", json={"text": "second"}).json()
    assert edited["updated"] >= note["updated"]
    history = lab.get(f"/api/v1/notes/{note['id']}/history").json()["rows"]
    assert [row["body"]["text"] for row in history] == ["second", "first"]
    assert lab.get("/api/v1/notes", params={"target": NEURON}).json()["total"] == 1
    assert lab.delete(f"/api/v1/notes/{note['id']}").json()["total"] == 0
    assert lab.get(f"/api/v1/notes/{note['id']}/history").status_code == 404


def test_links_are_our_own_only() -> None:
    text = "3.17, m/4.5 (not 1.2.3 or v3.17) /r/0123456789ab http://evil.example/r/0123456789ab javascript:alert(1)"
    found = [(piece.text, piece.href) for piece in pieces(text, "demo", "/x") if piece.href]
    assert found == [
        ("3.17", "/x/atlas/3.17?model=demo"),
        ("m/4.5", "/x/atlas/4.5?model=m"),
        ("/r/0123456789ab", "/x/r/0123456789ab"),
        ("http://evil.example/r/0123456789ab", "/x/r/0123456789ab"),
    ]
    assert "".join(piece.text for piece in pieces(text, "demo", "")) == text


def test_a_number_is_no_neuron() -> None:
    text = "It is 11.2378. By -0.5, +1.5, 0.25 nats, 5.3 %, 1.50 or 0.05; see 3.17."
    assert [piece.text for piece in pieces(text, "demo", "") if piece.href] == ["11.2378", "1.50", "3.17"]


def test_a_list_is_one_click_away_from_being_ablated(lab: TestClient) -> None:
    body = {"name": "<i>Mine</i>", "model": "tiny-gpt2", "neurons": ["1.5", "1.6", "1.5"], "description": "<b>"}
    made = lab.post("/api/v1/lists", json=body).json()
    assert made["neurons"] == ["1.5", "1.6"]
    page = lab.get("/lab").text
    assert "do=1.5%3Amean+1.6%3Amean" in page
    assert "<i>Mine" not in page
    lab.put(f"/api/v1/lists/{made['id']}", json={"neurons": ["0.1"]})
    rows = lab.get(f"/api/v1/lists/{made['id']}/history").json()["rows"]
    assert [row["body"]["neurons"] for row in rows] == [["0.1"], ["1.5", "1.6"]]
    assert made["id"] not in [row["id"] for row in lab.delete(f"/api/v1/lists/{made['id']}").json()["rows"]]


def test_pins(lab: TestClient) -> None:
    for _ in range(2):
        assert len(lab.post("/api/v1/pins", json={"target": NEURON}).json()["rows"]) == 1
    assert lab.delete("/api/v1/pins", params={"target": NEURON}).json()["rows"] == []


@pytest.mark.parametrize(
    "target", ["neuron:x", "neuron:a/b/1.2", "result:12", "javascript:alert(1)", "", "result:" + "g" * 64]
)
def test_a_target_is_a_neuron_or_a_result(lab: TestClient, target: str) -> None:
    assert lab.post("/api/v1/notes", json={"target": target, "text": "x"}).status_code == 422


def test_text_that_no_database_takes_is_refused(lab: TestClient) -> None:
    for text in ("", "   ", "a\0b", "x" * 20_001):
        assert lab.post("/api/v1/notes", json={"target": NEURON, "text": text}).status_code == 422


def test_an_export_comes_back_whole(make_client: Callable[..., TestClient], tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    here = make_client(data_dir=tmp_path / "a")
    link = here.post("/api/v1/models/tiny-gpt2/trace?store=true", json={"text": "hello"}).json()["permalink"]
    note = here.post("/api/v1/notes", json={"target": "result:" + link[3:], "text": "seen"}).json()
    here.put(f"/api/v1/notes/{note['id']}", json={"text": "seen twice"})
    here.post("/api/v1/lists", json={"name": "l", "model": "m", "neurons": ["1.5"]})
    here.post("/api/v1/pins", json={"target": NEURON})
    exported = here.get("/api/v1/export").json()
    there = make_client(data_dir=tmp_path / "b")
    assert there.post("/api/v1/import", json=exported).json() == {"notes": 1, "lists": 1, "pins": 1, "results": 1}
    assert there.get("/api/v1/export").json() == exported
    assert there.post("/api/v1/import", json=exported).json() == {"notes": 0, "lists": 0, "pins": 0, "results": 0}
    assert there.get(link, params={"format": "json"}).json()["verdict"] == "recomputed"


def test_an_export_of_something_else_is_refused_whole(lab: TestClient) -> None:
    """What was taken in is listed on everybody's pages, so a row that cannot be shown would break them all."""
    link = lab.post("/api/v1/models/tiny-gpt2/trace?store=true", json={"text": "hello"}).json()["permalink"]
    exported = lab.get("/api/v1/export").json()
    result = next(row for row in exported["results"] if row["hash"] == link[3:])
    note = {"id": "a" * 32, "target": NEURON, "text": "t", "author": "x", "created": 1.0, "updated": 1.0}
    pin = {"person": "x", "target": NEURON, "created": 1.0}
    bad = {
        "notes": [
            {**note, "id": 5}, {**note, "author": "x" * 101}, {"id": "b" * 32}, {**note, "text": "\0"},
            {**note, "created": 1e300}, {**note, "created": float("nan")}, {**note, "target": "javascript:alert(1)"},
            {**note, "text": "\ud800"}, {**note, "more": 1},
        ],
        "pins": [{**pin, "created": -1.0}, {**pin, "target": "neuron:x"}],
        "asked": [{"person": "x", "hash": "0" * 64, "at": 1.0}],
        "results": [
            {**result, "answer": "AAAA"}, {**result, "answer": result["answer"][:40]}, {**result, "model": "another"},
            {**result, "request": {**result["request"], "token_ids": [5]}}, {**result, "hash": "0" * 64},
        ],
        "lists": [{"id": "c" * 32, "name": "l", "description": "", "model": "m", "neurons": [1], "author": "x",
                   "created": 1.0, "updated": 1.0}],
        "revisions": [{"id": 1, "thing": "a" * 32, "author": "x", "at": 1.0, "body": {"text": 5}}],
    }  # fmt: skip
    head = {"format": "nullscope-export", "version": 1, "notes": [note]}
    for name, rows in bad.items():
        for row in rows:
            given = {**head, name: [*head.get(name, ()), row]}
            refused = lab.post("/api/v1/import", content=json.dumps(given), headers={"content-type": JSON})
            assert refused.status_code == 422, (name, row)
    assert "a" * 32 not in [row["id"] for row in lab.get("/api/v1/notes").json()["rows"]]
    twice = {**head, "pins": [pin, pin]}  # in one file; the second is here already
    assert lab.post("/api/v1/import", json=twice).json()["pins"] == 1


def test_an_export_may_be_larger_than_a_request(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_body_bytes=2000)
    padded = json.dumps({"format": "nullscope-export", "version": 1}) + " " * 4000
    assert client.post("/api/v1/import", content=padded, headers={"content-type": JSON}).status_code == 200
    assert client.post("/lab/import", files={"file": ("e.json", padded)}, follow_redirects=False).status_code == 303
    assert client.post("/api/v1/notes", content=padded, headers={"content-type": JSON}).status_code == 413


def test_a_note_on_a_model_of_any_name_leads_back_to_it(lab: TestClient) -> None:
    """The address is a header: ASCII only."""
    form = {"target": "neuron:日本%0d/1.1", "text": "x"}
    moved = lab.post("/lab/notes", data=form, follow_redirects=False)
    assert moved.headers["location"] == "/m/%E6%97%A5%E6%9C%AC%250d/n/1.1#notes"
