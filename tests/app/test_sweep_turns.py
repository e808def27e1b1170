"""Sweeps beside each other: a small one is through while a large one runs; a cancelled one gives back what it held."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from analysis.sweep.sums import Sums
from analysis.sweep.worker import Worker
from app.core.residency import host, worker
from tests.app.served import until
from tests.app.test_sweep_api import SMALL, finished, started


def large(client: TestClient) -> str:
    """A sweep of many rows, each a shard of its own; its id, once it computes effects."""
    text = "\n".join(f"The cat number {n} sat on the mat, and then it left." for n in range(80))
    corpus = client.post("/api/v1/corpora", params={"name": "long.txt"}, content=text.encode()).json()["id"]
    sweep_id = started(client, **{**SMALL, "rows": None, "length": 12, "corpus": corpus})
    until(lambda: client.get(f"/api/v1/jobs/{sweep_id}").json()["stage"].startswith("second pass"))
    return sweep_id


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every worker, engine and sum that a sweep makes."""
    made: list[weakref.ref[Any]] = []
    build, begin = Worker.build, Sums.__init__

    def watched(*given: Any) -> Worker:
        found = build(*given)
        made.extend((weakref.ref(found), weakref.ref(found.engine)))
        return found

    def begun(self: Sums, *given: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *given)

    monkeypatch.setattr(Worker, "build", watched)
    monkeypatch.setattr(Sums, "__init__", begun)
    return made


def test_a_small_sweep_is_through_and_a_cancelled_one_holds_nothing(
    make_client: Callable[..., TestClient], built: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[str] = []
    monkeypatch.setattr(worker, "trim", lambda: trimmed.append("beside the model"))
    monkeypatch.setattr(host, "trim", lambda: trimmed.append("here"))
    client = make_client()
    client.app.state.jobs.slice_seconds = 0.0  # type: ignore[attr-defined]
    long = large(client)
    small = finished(client, started(client, **SMALL))
    assert client.get(f"/api/v1/jobs/{long}").json()["state"] == "running"
    assert small["n_rows"] == 2
    assert len(built) > 4
    engines = {id(found()) for found in built if type(found()).__name__ == "Engine"}
    assert len(engines) == 1  # they shared it, and the small one's end did not take it away
    del trimmed[:]
    client.post(f"/api/v1/sweeps/{long}/cancel")
    until(lambda: client.get(f"/api/v1/jobs/{long}").json()["state"] == "cancelled")
    assert [found() for found in built if found() is not None] == []
    assert trimmed == ["beside the model", "here"]


def test_memory_is_given_back_by_whatever_the_c_library_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Library:
        def malloc_trim(self, pad: int) -> None:
            asked.append(pad)

    monkeypatch.setattr(worker.ctypes, "CDLL", lambda name: Library())
    worker.free_memory()
    assert asked == [0]
    monkeypatch.setattr(worker.ctypes, "CDLL", lambda name: object())  # musl, macOS: no such function
    worker.free_memory()
