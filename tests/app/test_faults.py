"""Faults of the surroundings: a damaged model, a killed server, a clock that is set back. (A database that is locked or
full: test_db, test_permalinks; a device out of memory, a client that leaves: test_isolation; a lost worker:
test_ray_engine.)"""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from app.core.access.keys import KeyFile
from tests import tiny
from tests.app.served import PATIENCE
from tests.app.test_sweep_killed import Server

URL = "/api/v1/models"


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_model_file_is_named_and_the_others_go_on(
    make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path, keep: float
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    file = broken / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    client = make_client(models=(str(model_folder), str(broken)))
    rows = {row["key"]: row for row in client.get(URL).json()["models"]}
    assert (rows["broken"]["state"], rows["tiny-gpt2"]["state"]) == ("failed", "loaded")
    assert "model.safetensors" in rows["broken"]["error"]
    assert "again" in rows["broken"]["error"]  # the remedy: copy or download it again
    refused = client.post(f"{URL}/broken/trace", json={"text": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_failed")
    assert client.post(f"{URL}/tiny-gpt2/trace?store=true", json={"text": "x"}).status_code == 200
    ready = client.get("/readyz")  # the other model serves
    assert (ready.status_code, ready.json()["waiting_for"], ready.json()["failed"]) == (200, [], ["broken"])
    assert "model.safetensors" in client.get("/models").text
    file.write_bytes(content)  # the remedy, without a restart
    assert client.delete(f"{URL}/broken").status_code == 200
    assert client.post(URL, json={"key": "broken"}).status_code == 202
    assert client.app.state.host.wait("broken").state == "loaded"  # type: ignore[attr-defined]
    assert client.post(f"{URL}/broken/trace", json={"text": "x"}).status_code == 200


def test_a_killed_server_has_lost_nothing_that_it_acknowledged(tmp_path: Path, model_folder: Path) -> None:
    """Four people write notes and ask for traces until the process is gone; then everything answered is looked up."""
    server = Server(tmp_path / "data", model_folder)
    notes: dict[str, str] = {}
    links: set[str] = set()
    enough, killed = threading.Event(), threading.Event()

    def person(number: int) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=PATIENCE) as client:
            for turn in range(10_000):
                if killed.is_set():
                    return
                text = f"{number}.{turn}"
                try:
                    note = client.post("/api/v1/notes", json={"target": "neuron:m/1.1", "text": text})
                    if note.is_success:
                        notes[note.json()["id"]] = text
                    body = {"token_ids": tiny.token_ids(8, seed=100 * number + turn)}
                    trace = client.post(f"{URL}/tiny-gpt2/trace?store=true", json=body)
                    if trace.is_success:
                        links.add(trace.json()["permalink"])
                    if not (note.is_success and trace.is_success):
                        assert {note.status_code, trace.status_code} <= {200, 201, 429}, (note.text, trace.text)
                        killed.wait(1)  # a fast machine meets the rate limit: refused is not acknowledged
                except httpx.TransportError:  # what it was asked last has no answer
                    return
                if len(notes) > 40:
                    enough.set()

    people = [threading.Thread(target=person, args=(number,)) for number in range(4)]
    try:
        server.until_ready()
        for each in people:
            each.start()
        assert enough.wait(300)
        server.kill()
        killed.set()
        with sqlite3.connect(server.data_dir / "nullscope.sqlite") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        server.start()
        server.until_ready()
        for each in people:
            each.join(300)
        found = server.client.get("/api/v1/notes", params={"limit": 500}).json()["rows"]
        assert notes.items() <= {row["id"]: row["text"] for row in found}.items()
        for link in links - {None}:
            assert server.client.get(f"/api/v1/results/{link.removeprefix('/r/')}").status_code == 200
        assert len(links) > 4
    finally:
        server.kill()
        server.client.close()
        server.socket.close()


def test_a_clock_set_back_stops_nothing(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = KeyFile(tmp_path / "users.json")
    secret = keys.add("ada", "run")
    client = make_client(auth_file=keys.path)
    client.post("/login", data={"key": secret})
    body = {"text": "The cat"}
    before = client.post(f"{URL}/tiny-gpt2/trace?store=true", json=body).json()
    note = client.post("/api/v1/notes", json={"target": "neuron:m/1.1", "text": "first"}).json()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86_400)  # yesterday
    assert client.post(f"{URL}/tiny-gpt2/trace?store=true", json=body).json()["clean"] == before["clean"]
    assert client.get(before["permalink"], params={"format": "json"}).json()["verdict"] == "recomputed"
    assert client.put(f"/api/v1/notes/{note['id']}", json={"text": "second"}).json()["text"] == "second"
    history = client.get(f"/api/v1/notes/{note['id']}/history").json()["rows"]
    assert [row["body"]["text"] for row in history] == ["second", "first"]
    sweep = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}
    job = client.post("/api/v1/sweeps", json=sweep).json()["id"]
    for _ in range(6000):
        if (state := client.get(f"/api/v1/jobs/{job}").json()["state"]) == "finished":
            break
        assert state in ("queued", "running")
        threading.Event().wait(0.02)
    assert state == "finished"
