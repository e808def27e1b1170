"""Jobs take turns: a small one does not wait for the end of a large one, whoever's they are; what ends is let go."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.jobs import Jobs, Step
from app.core.store import Database
from tests.app.served import until


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.sqlite'}")
    opened.open()
    yield opened
    opened.close()


class Units:
    """A runner that goes on from what it has finished: `n` units, each of so many steps. seen: a name a step."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps
        self.seen: list[str] = []
        self.done: dict[str, int] = {}
        self.closed: list[str] = []
        self.at: dict[tuple[str, int], Callable[[], object]] = {}  # (name, steps seen of it): what happens then

    def __call__(self, job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        name, n = config["name"], config["n"]
        try:
            yield Step("working", self.done.setdefault(name, 0), n)
            while self.done[name] < n:
                for part in range(self.steps):
                    self.seen.append(name)
                    self.at.pop((name, self.seen.count(name)), lambda: None)()
                    self.done[name] += part == self.steps - 1
                    yield Step("working", self.done[name], n)
        except GeneratorExit:
            self.closed.append(name)
            raise


def jobs_with(database: Database, runner: Any, *, resumable: bool = True, **options: Any) -> Jobs:
    jobs = Jobs(database, **{"slice_seconds": 0.0, "stay": 1, **options})
    jobs.register("test", runner, resumable=resumable)
    return jobs


def submit(jobs: Jobs, name: str, n: int, person: str = "ann") -> str:
    return jobs.submit("test", model="demo", person=person, config={"name": name, "n": n})


def finish(jobs: Jobs, *names: str) -> None:
    until(lambda: [jobs.get(name).state for name in names] == ["finished"] * len(names))
    jobs.close()


@pytest.mark.parametrize("person", ["ann", "ben"])
@pytest.mark.parametrize("most_open", [1, 3])
def test_a_small_job_behind_a_large_one_finishes_soon(database: Database, person: str, most_open: int) -> None:
    """It comes when the large one has done 100 of 10,000 units, and is through a few units later, not at their end."""
    runner = Units()
    jobs = jobs_with(database, runner, most_open=most_open)
    small: list[str] = []
    runner.at["large", 100] = lambda: small.append(submit(jobs, "small", 4, person))
    large = submit(jobs, "large", 10_000)
    jobs.start()
    until(lambda: bool(small) and jobs.get(small[0]).state == "finished")
    between = runner.seen[100 : len(runner.seen) - runner.seen[::-1].index("small")]
    assert between.count("small") == 4
    assert between.count("large") <= 12
    assert jobs.get(large).state in ("running", "queued")
    jobs.cancel(large)
    until(lambda: jobs.get(large).state == "cancelled")
    jobs.close()


def test_turns_last_a_slice_of_time(database: Database) -> None:
    """A clock that each look moves by one: at the beginning of a turn, and after each step."""
    runner = Units()
    jobs = jobs_with(database, runner, slice_seconds=3, clock=itertools.count().__next__)
    names = submit(jobs, "a", 5), submit(jobs, "b", 5)
    jobs.start()
    finish(jobs, *names)
    assert "".join(runner.seen) == "aabbaaabbb"  # the first step of each says only where it begins


def test_turns_are_the_peoples_not_the_jobs(database: Database) -> None:
    runner = Units()
    jobs = jobs_with(database, runner, most_open=5)
    names = [submit(jobs, f"ann {n}", 12) for n in range(4)] + [submit(jobs, "ben", 20, "ben")]
    jobs.start()
    finish(jobs, *names)
    until_ben = runner.seen[: len(runner.seen) - runner.seen[::-1].index("ben")]
    anns = [name for name in until_ben if name != "ben"]
    assert abs(len(anns) - 20) <= 5  # as many turns as ben's, though ann has four jobs
    assert max(map(anns.count, set(anns))) - min(map(anns.count, set(anns))) <= 1


def test_more_than_may_be_open_take_turns_and_nothing_is_done_twice(database: Database) -> None:
    runner = Units(steps=3)
    jobs = jobs_with(database, runner, most_open=2)
    names = [submit(jobs, name, 6) for name in "abcd"]
    jobs.start()
    finish(jobs, *names)
    assert set(runner.closed) >= {"a", "b"}  # they made room
    finished_by = {name: len(runner.seen) - runner.seen[::-1].index(name) for name in "abcd"}
    assert runner.done == dict.fromkeys("abcd", 6)
    assert all(runner.seen.count(name) < 6 * 3 + 3 * runner.closed.count(name) for name in "abcd")
    assert max(finished_by.values()) - min(finished_by.values()) < 6 * 3 * 2  # not one after the other


def test_one_that_has_finished_nothing_yet_keeps_its_place(database: Database) -> None:
    """Else two jobs could put each other back for ever."""
    runner = Units(steps=50)
    jobs = jobs_with(database, runner, most_open=1)
    names = submit(jobs, "a", 1), submit(jobs, "b", 1)
    jobs.start()
    finish(jobs, *names)
    assert runner.seen == ["a"] * 50 + ["b"] * 50


def test_what_cannot_go_on_is_never_put_back(database: Database) -> None:
    runner = Units()
    jobs = jobs_with(database, runner, resumable=False, most_open=1)
    names = submit(jobs, "a", 9), submit(jobs, "b", 2)
    jobs.start()
    finish(jobs, *names)
    assert runner.seen == ["a"] * 9 + ["b"] * 2


def test_a_job_stays_for_some_turns(database: Database) -> None:
    runner = Units()
    jobs = jobs_with(database, runner, most_open=1, stay=5)
    names = submit(jobs, "a", 9), submit(jobs, "b", 9)
    jobs.start()
    finish(jobs, *names)
    assert "".join(runner.seen[:8]) == "aaaabbbb"


def test_who_waits_for_something_gives_up_the_turn(database: Database) -> None:
    waiting = iter(range(3))
    seen: list[str] = []

    def runner(job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        for _ in waiting if config["name"] == "idle" else ():
            seen.append("idle")
            yield Step("waiting", idle=True)
        seen.append(config["name"])
        yield Step("working", 1, 1)

    jobs = jobs_with(database, runner, slice_seconds=1e9)
    names = submit(jobs, "idle", 1), submit(jobs, "busy", 1)
    jobs.start()
    finish(jobs, *names)
    assert seen == ["idle", "busy", "idle", "idle", "idle"]


def test_places_count_turns_and_progress_is_seen_between_them(database: Database) -> None:
    runner = Units()
    jobs = jobs_with(database, runner, most_open=2)
    seen: dict[str, Any] = {}

    def look() -> None:
        a, _, c = names
        seen["states"] = [jobs.get(name).state for name in names]
        seen["place"] = jobs.ahead(jobs.get(c))
        seen["done of a"] = jobs.progress(a).step.done  # type: ignore[union-attr]
        seen["of c"] = jobs.progress(c)

    runner.at["b", 2] = look
    names = [submit(jobs, name, 4) for name in "abc"]
    jobs.stay = 10**6
    jobs.start()
    finish(jobs, *names)
    assert seen["states"] == ["running", "running", "queued"]
    assert seen["place"] == 1  # b's turn is now; a new job's first one comes next, once there is room
    assert seen["done of a"] == 2
    assert seen["of c"] is None


def test_a_job_that_waits_for_its_turn_is_cancelled_without_another_step(database: Database) -> None:
    runner = Units()
    jobs = jobs_with(database, runner)
    a = submit(jobs, "a", 100)
    b = submit(jobs, "b", 8)
    runner.at["b", 5] = lambda: jobs.cancel(a)
    jobs.start()
    until(lambda: (jobs.get(a).state, jobs.get(b).state) == ("cancelled", "finished"))
    assert runner.seen[runner.seen.index("b") :].count("a") <= 5
    assert "a" in runner.closed
    jobs.close()


@pytest.mark.parametrize("end", ["finished", "cancelled", "failed"])
def test_what_a_job_held_is_freed_before_it_is_said_to_have_ended(database: Database, end: str) -> None:
    class Buffer:
        pass

    held: list[weakref.ref[Buffer]] = []
    relieved: list[tuple[bool, str]] = []

    def runner(job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        buffer = Buffer()
        held.append(weakref.ref(buffer))
        yield Step("working", 1, 2)
        if end == "failed":
            raise ValueError("boom")
        if end == "cancelled":
            jobs.cancel(job_id)
        yield Step("working", 2, 2)

    def relieve() -> None:
        relieved.append((held[0]() is None, jobs.get(name).state))

    jobs = jobs_with(database, runner, relieve=relieve)
    name = submit(jobs, "a", 1)
    jobs.start()
    until(lambda: jobs.get(name).state == end)
    jobs.close()
    assert relieved == [(True, "cancelling" if end == "cancelled" else "running")]
