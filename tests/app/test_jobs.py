"""Jobs: one at a time, cancelled between steps, gone on with after a restart without anyone asking."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.types import InputError, NotFoundError
from app.core.errors import BusyError, ConflictError, UnavailableError
from app.core.jobs import Jobs, Progress, Step
from app.core.store import Database
from tests.app.served import until


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.sqlite'}")
    opened.open()
    yield opened
    opened.close()


class Gate:
    """A runner that the test lets on step by step."""

    def __init__(self, steps: int = 3) -> None:
        self.steps, self.seen = steps, []
        self.at, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        for number in range(self.steps):
            self.seen.append((job_id, number))
            self.at.release()
            self.go.acquire()
            yield Step("working", number + 1, self.steps)


def jobs_with(database: Database, runner: Any) -> Jobs:
    jobs = Jobs(database)
    jobs.register("test", runner)
    return jobs


def submit(jobs: Jobs) -> str:
    return jobs.submit("test", model="demo", person="ann", config={"x": 1})


def test_a_job_runs_and_finishes(database: Database) -> None:
    jobs = jobs_with(database, lambda *_: iter([Step("one", 1, 2), Step("one", 2, 2)]))
    job_id = submit(jobs)
    assert jobs.get(job_id).state == "queued"
    jobs.start()
    until(lambda: jobs.get(job_id).state == "finished")
    job = jobs.get(job_id)
    assert (job.stage, job.done, job.total, job.config) == ("one", 2, 2, {"x": 1})
    jobs.close()


def test_one_at_a_time_in_order(database: Database) -> None:
    gate = Gate(1)
    jobs = jobs_with(database, gate)
    first, second = submit(jobs), submit(jobs)
    jobs.start()
    gate.at.acquire()
    assert jobs.get(first).state == "running"
    assert jobs.get(second).state == "queued"
    assert jobs.ahead(jobs.get(second)) == 1
    assert jobs.progress(first) is not None
    assert jobs.progress(second) is None
    gate.go.release(2)
    until(lambda: jobs.get(second).state == "finished")
    assert [job_id for job_id, _ in gate.seen] == [first, second]
    jobs.close()


def test_cancel_between_steps_and_resume(database: Database) -> None:
    gate = Gate(3)
    jobs = jobs_with(database, gate)
    job_id, waiting = submit(jobs), submit(jobs)
    jobs.start()
    gate.at.acquire()
    jobs.cancel(waiting)
    assert jobs.get(waiting).state == "cancelled"
    jobs.cancel(job_id)
    assert jobs.get(job_id).state == "cancelling"
    with pytest.raises(ConflictError):
        jobs.delete(job_id)
    gate.go.release()
    until(lambda: jobs.get(job_id).state == "cancelled")
    assert len(gate.seen) == 1
    gate.go.release(3)
    jobs.resume(job_id)
    until(lambda: jobs.get(job_id).state == "finished")
    with pytest.raises(ConflictError, match="only one that has stopped"):
        jobs.resume(job_id)
    jobs.close()


def test_a_restart_goes_on_by_itself(database: Database) -> None:
    gate = Gate(2)
    jobs = jobs_with(database, gate)
    job_id = submit(jobs)
    jobs.start()
    gate.at.acquire()
    closing = threading.Thread(target=jobs.close)
    closing.start()
    until(lambda: jobs._closing)
    gate.go.release()
    closing.join()
    assert jobs.get(job_id).state == "running"  # as a killed process would leave it
    again = jobs_with(database, lambda *_: iter([Step("done", 1, 1)]))
    again.start()
    until(lambda: again.get(job_id).state == "finished")
    again.close()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("Bad text.", hint="Send another."), "Bad text. Send another."),
        (ValueError("boom"), "ValueError: boom"),
    ],
)
def test_a_failure_is_kept_and_the_next_job_runs(database: Database, error: Exception, message: str) -> None:
    def runner(job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        if job_id == bad:
            raise error
        yield Step("fine", 1, 1)

    jobs = jobs_with(database, runner)
    bad, good = submit(jobs), submit(jobs)
    jobs.start()
    until(lambda: jobs.get(good).state == "finished")
    assert (jobs.get(bad).state, jobs.get(bad).message) == ("failed", message)
    jobs.delete(bad)
    with pytest.raises(NotFoundError):
        jobs.get(bad)
    jobs.close()


def test_no_time_is_left_of_a_stage_without_a_total() -> None:
    progress = Progress("job")
    progress.advance(Step("reading the text"))
    progress.advance(Step("reading the text", 8))
    assert progress.eta is None
    progress.advance(Step("second pass", 1, 4))
    assert progress.eta is None
    progress.advance(Step("second pass", 2, 4))
    assert progress.eta is not None
    assert progress.eta >= 0


def test_people_take_turns(database: Database) -> None:
    """Whoever has queued many delays another's first by the running one and one more at most."""
    gate = Gate(1)
    jobs = jobs_with(database, gate)
    mine = [submit(jobs) for _ in range(4)]
    jobs.start()
    gate.at.acquire()
    theirs = [jobs.submit("test", model="demo", person="ben", config={}) for _ in range(2)]
    order = [mine[0], theirs[0], mine[1], theirs[1], mine[2], mine[3]]
    assert [jobs.ahead(jobs.get(name)) for name in order[1:]] == [1, 2, 3, 4, 5]
    gate.go.release(len(order))
    until(lambda: jobs.get(mine[3]).state == "finished")
    assert [job_id for job_id, _ in gate.seen] == order
    jobs.close()


def test_one_person_may_not_fill_the_queue(database: Database) -> None:
    jobs = Jobs(database, per_person=2)
    first, _ = submit(jobs), submit(jobs)
    with pytest.raises(BusyError, match="2 jobs waiting"):
        submit(jobs)
    jobs.submit("test", model="demo", person="ben", config={})
    jobs.cancel(first)
    submit(jobs)


def test_a_database_that_is_away_for_a_while_stops_no_job(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second time that the jobs' thread asks for it, whatever for."""
    monkeypatch.setattr("app.core.jobs.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("app.core.jobs.AGAIN_SECONDS", 0.01)
    real, calls = Database.session, itertools.count()

    def session(self: Database) -> Any:
        if threading.current_thread().name == "jobs" and next(calls) % 2 == 0:
            raise UnavailableError("The disk is full.")
        return real(self)

    monkeypatch.setattr(Database, "session", session)
    jobs = jobs_with(database, lambda *_: iter([Step("one", n, 3) for n in range(3)]))
    names = [submit(jobs) for _ in range(3)]
    jobs.start()
    until(lambda: [jobs.get(name).state for name in names] == ["finished"] * 3)
    assert next(calls) > 10
    jobs.close()
