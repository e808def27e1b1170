"""Whose turn it is among jobs: a slice of time a person in turn, and each person's jobs in turn."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from app.core.jobs.progress import Progress, Step
from app.core.store import Job


class Turns:
    """When each person and each job last had a turn. Kept in memory: after a restart everybody begins anew."""

    def __init__(self) -> None:
        self._count = 0
        self._people: dict[str, int] = {}
        self._jobs: dict[str, int] = {}

    def take(self, job: Job) -> None:
        """It is this job's turn now."""
        self._count += 1
        self._people[job.person] = self._jobs[job.id] = self._count

    def of(self, job: Job) -> int:
        """The number of its last turn; 0 when it has had none."""
        return self._jobs.get(job.id, 0)

    def line(self, jobs: Iterable[Job]) -> list[Job]:
        """In the order of their next turns: whoever waits longest first, of each person what has waited longest.

        A new job's first turn comes before the next one of that person's other jobs.
        """
        rounds: Counter[str] = Counter()
        places = []
        for job in sorted(jobs, key=lambda job: (self.of(job), job.created, job.id)):
            places.append((rounds[job.person], self._people.get(job.person, 0), job))
            rounds[job.person] += 1
        return [job for *_, job in sorted(places, key=itemgetter(0, 1))]

    def forget(self, job_id: str) -> None:
        """It has ended."""
        self._jobs.pop(job_id, None)


@dataclass(eq=False)
class Open:
    """A job that has begun and has not ended. gained: it has finished a unit of a stage since it began, so that
    beginning again from its files would not begin at the same place."""

    job: Job
    steps: Iterator[Step]
    resumable: bool
    progress: Progress
    gained: bool = False
    turns: int = 0
    saved: float = field(default_factory=lambda: float("-inf"))

    def advance(self, step: Step) -> None:
        before = self.progress.step
        self.gained |= step.stage == before.stage and step.total > 0 and step.done > before.done
        self.progress.advance(step)

    def due(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> bool:
        """Whether its progress was last written down that long ago; it counts as written down now."""
        if clock() - self.saved < seconds:
            return False
        self.saved = clock()
        return True

    def close(self) -> None:
        """Let go of everything that it holds."""
        if (close := getattr(self.steps, "close", None)) is not None:
            close()
