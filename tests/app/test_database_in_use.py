"""Another process holds the database's lock: what only reads goes on, no answer is held back, what must be written says
so. And many stored sweeps cost a page nothing."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from analysis.store import RunFolder
from app.core.errors import UnavailableError
from app.core.evidence import Speakers
from app.core.jobs import Jobs
from app.core.store import Database
from app.core.store import notes as stored
from app.core.store.tables import Job, Note
from tests.app import every_route
from tests.app.served import until

TRACE = "/api/v1/models/tiny-gpt2/trace"
KEEP = f"{TRACE}?store=true"


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """As another process does it: its own connection, in a transaction that writes."""
    assert database.path is not None
    other = sqlite3.connect(database.path)
    try:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO pins VALUES ('somebody', 'neuron:m/1.1', 0)")
        yield
    finally:
        other.rollback()
        other.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers give up soon."""
    monkeypatch.setattr("app.core.store.database.BUSY_SECONDS", 0.2)


def test_every_page_answers_while_another_process_writes(short: None, make_client: Callable[..., TestClient]) -> None:
    client = make_client(rate_per_minute=1e9)
    names = every_route.prepared(client)
    with locked(client.app.state.database):  # type: ignore[attr-defined]
        for call in [*every_route.pages(), *every_route.reads()]:
            answer = call.ask(client, names)
            assert answer.status_code in call.expected, (call, answer.text[:300])


def test_an_answer_is_not_held_back_for_its_permalink(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one waits a little, the others not at all: here the first waits not either, and the lock is never let
    go before all have their answer."""
    monkeypatch.setattr("app.core.store.keeping.PATIENCE", 0.0)
    client = make_client()
    database = client.app.state.database  # type: ignore[attr-defined]
    with locked(database):
        for text in ("one", "two", "three"):
            answer = client.post(KEEP, json={"text": text})
            assert (answer.status_code, answer.json()["permalink"]) == (200, None)
    monkeypatch.undo()
    until(lambda: client.get("/api/v1/results").json()["total"] == 3)  # the writer was late; not any more
    name = client.post(KEEP, json={"text": "four"}).json()["permalink"]
    assert client.get(name, headers={"accept": "application/json"}).status_code == 200


def test_answers_that_were_given_up_cost_the_next_one_no_permalink(
    short: None, make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for hours after the lock and went without, stored though it was."""
    client = make_client()
    state = client.app.state  # type: ignore[attr-defined]
    with monkeypatch.context() as patch, locked(state.database):
        patch.setattr("app.core.store.keeping.PATIENCE", 0.0)
        for text in ("one", "two"):
            assert client.post(KEEP, json={"text": text}).json()["permalink"] is None
        until(lambda: not state.keeper.waiting)
    assert client.get("/api/v1/results").json()["total"] == 0
    assert client.post(KEEP, json={"text": "three"}).json()["permalink"]


def test_what_must_be_written_says_so(short: None, make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    with locked(client.app.state.database):  # type: ignore[attr-defined]
        refused = client.post("/api/v1/notes", json={"target": "neuron:m/1.1", "text": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
        assert refused.headers["retry-after"]
    assert client.post("/api/v1/notes", json={"target": "neuron:m/1.1", "text": "x"}).status_code == 201


def test_what_reads_cannot_write(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    with pytest.raises(UnavailableError), database.reading() as session:
        stored.create(session, Note, {"target": "neuron:m/1.1", "text": "x"}, "ada")


def test_what_was_read_is_still_true_when_it_is_written(tmp_path: Path) -> None:
    """Two writers that read first: the second reads after the first has written, so none is told to begin again."""
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    with database.session() as session:
        note = stored.create(session, Note, {"target": "neuron:m/1.1", "text": "0"}, "ada").id
    barrier, failures = threading.Barrier(8), []

    def add() -> None:
        barrier.wait()
        try:
            with database.session() as session:
                found = session.get_one(Note, note)
                stored.change(session, found, {"text": str(int(found.text) + 1)}, "ada")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.reading() as session:
        assert session.get_one(Note, note).text == "8"


def sweep_job(name: str, created: float, *, state: str = "finished", person: str = "p") -> Job:
    config = {"sweep": {"neurons": None, "baseline": "mean", "n_rows": 1}, "corpus": "sample", "source": "x"}
    fixed = {"kind": "sweep", "model": "m", "stage": "", "done": 0, "total": 0, "config": config}
    return Job(id=name, created=created, updated=created, state=state, person=person, **fixed)


MANIFEST = {
    "weights_sha256": "w",
    "dtype": "float32",
    "corpus": {"source": "x"},
    "config": {"neurons": None, "baseline": "mean"},
}


def test_five_hundred_sweeps_are_read_once_and_asked_for_with_one_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.sqlite")
    database.open()
    with database.session() as session:
        for number in range(500):
            session.add(sweep_job(f"s{number:03}", number))
            folder = tmp_path / "sweeps" / f"s{number:03}"
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(json.dumps(MANIFEST))
            (folder / "result.json").write_text(json.dumps({"n_rows": number, "n_tokens": number, "files": {}}))
    jobs = Jobs(database)
    speakers = Speakers(
        partial(jobs.finished, "sweep"),
        lambda model: [],
        lambda name: RunFolder(tmp_path / "sweeps" / name),
        "float32",
        lambda question, sweep, read: read(),
    )
    assert len(speakers.of("m")) == 500
    monkeypatch.setattr(RunFolder, "manifest", lambda folder: pytest.fail(f"{folder} is read again"))
    with statements() as asked:
        assert len(speakers.of("m")) == 500
    assert len([line for line in asked if line.startswith("SELECT")]) == 1
    jobs.delete("s499")
    assert len(speakers.of("m")) == 499
    database.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    """What any database is asked inside the block."""
    asked: list[str] = []

    def note(*given: object) -> None:
        asked.append(str(given[2]))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_the_list_of_sweeps_asks_the_database_a_few_times_however_many_there_are(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(run_jobs=False)

    def count() -> int:
        with statements() as asked:
            assert client.get("/api/v1/sweeps").status_code == 200
            assert client.get("/api/v1/jobs").status_code == 200
        return len(asked)

    def add(number: int) -> None:
        with client.app.state.database.session() as session:  # type: ignore[attr-defined]
            session.add(sweep_job(f"q{number}", number, state="cancelled", person="local"))

    add(0)
    few = count()
    for number in range(1, 12):
        add(number)
    assert count() == few
