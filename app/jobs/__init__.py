"""Durable long work: submit, progress, cancel, resume after a restart without anyone asking.

    jobs = Jobs(database); jobs.register("sweep", runner); jobs.start()
    job_id = jobs.submit("sweep", model="demo", person="ann", config={...})

A runner is `runner(job_id, model, config)`: an iterator of `Step`s, each of which comes within about half a second,
so that a cancelled job ends soon. One job runs at a time, on a thread of its own, round robin over people; what it does
on a device it does in slices (`ModelHost.slices`), between which the device serves people. The row in the database
survives a restart: a job that was queued or running is queued again, and its runner goes on from its own files.
"""

import fcntl
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO, TypeVar

from sqlalchemy import func, select

from analysis.types import NotFoundError, NullscopeError
from app.db import Database, Job, Session
from app.errors import BusyError, ConflictError, UnavailableError

log = logging.getLogger(__name__)
T = TypeVar("T")

ACTIVE = ("queued", "running", "cancelling")
FINAL = ("finished", "failed", "cancelled")
LOCK = "jobs.lock"  # in the data folder: held by the process that works off its jobs
SAVE_SECONDS = 2.0  # how often the progress of a running job is written down
AGAIN_SECONDS = 2.0  # until a database that could not be reached or written is tried again


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is. done, total: of the stage's units. tokens: worked off since the job was last started."""

    stage: str
    done: int = 0
    total: int = 0
    tokens: int = 0


Runner = Callable[[str, str, dict[str, Any]], Iterator[Step]]


@dataclass
class Progress:
    """The running job, as its thread left it. seconds, tokens: since the stage began in this process."""

    job_id: str
    step: Step = field(default_factory=lambda: Step("starting"))
    stage_started: float = field(default_factory=time.monotonic)
    done_at_start: int = 0
    tokens_at_start: int = 0

    def advance(self, step: Step) -> None:
        if step.stage != self.step.stage:
            self.stage_started, self.done_at_start, self.tokens_at_start = time.monotonic(), step.done, step.tokens
        self.step = step

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.stage_started

    @property
    def tokens_per_second(self) -> float | None:
        tokens = self.step.tokens - self.tokens_at_start
        return tokens / self.seconds if tokens > 0 and self.seconds > 0 else None

    @property
    def eta(self) -> float | None:
        """Seconds left of this stage, from its pace so far; None before the first unit is done, or without a total."""
        finished = self.step.done - self.done_at_start
        left = self.step.total - self.step.done  # below 0 in a stage without a total
        return left * self.seconds / finished if left >= 0 < finished else None


def locked(path: Path) -> TextIO | None:
    """A lock of this process on a data folder, held until the file is closed; None while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


class _CancelledError(Exception):
    pass


class Jobs:
    """The jobs of one process. `start` takes up what an earlier process left."""

    def __init__(self, database: Database, *, per_person: int = 32) -> None:
        self.database = database
        self.per_person = per_person
        self.running: Progress | None = None
        self._runners: dict[str, Runner] = {}
        self._changed = threading.Condition()
        self._cancelled: set[str] = set()
        self._turns: dict[str, int] = {}  # person -> the turn at which a job of theirs was last begun
        self._closing = False
        self._thread: threading.Thread | None = None
        self._lock_file: TextIO | None = None

    def register(self, kind: str, runner: Runner) -> None:
        self._runners[kind] = runner

    def start(self, lock: Path | None = None) -> None:
        """Work off jobs on a thread, unless another process does so for this data folder (it holds ``lock``)."""
        if lock is not None and not self._locked(lock):
            log.warning("another process works off the jobs of %s", lock.parent)
            return
        with self.database.session() as session:
            for job in session.scalars(select(Job).where(Job.state.in_(("running", "cancelling")))):
                job.state = "queued" if job.state == "running" else "cancelled"
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the current slice; what runs stays "running" in the database and goes on at the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._lock_file is not None:
            self._lock_file.close()

    def _locked(self, path: Path) -> bool:
        self._lock_file = locked(path)
        return self._lock_file is not None

    # asking

    def submit(self, kind: str, *, model: str, person: str, config: dict[str, Any], job_id: str | None = None) -> str:
        """Queue a job; BusyError when this person has as many waiting as one may."""
        now = time.time()
        job = Job(
            id=job_id or uuid.uuid4().hex[:12],
            kind=kind,
            model=model,
            person=person,
            state="queued",
            config=config,
            stage="",
            done=0,
            total=0,
            created=now,
            updated=now,
        )
        with self.database.session() as session:
            waiting = sum(other.person == person for other in self._line(session))
            if waiting >= self.per_person:
                raise BusyError(
                    f"You have {waiting} jobs waiting.", retry_after=60, code="queue_full", hint="Cancel one, or wait."
                )
            session.add(job)
        self._wake()
        return job.id

    def get(self, job_id: str) -> Job:
        with self.database.session() as session:
            if (job := session.get(Job, job_id)) is None:
                raise NotFoundError(f"There is no job {job_id[:40]!r}.", code="no_such_job")
            return job

    def every(self, kind: str | None = None, *, person: str | None = None) -> list[Job]:
        """Newest first; of one kind, of one person, or all."""
        query = select(Job).order_by(Job.created.desc(), Job.id)
        query = query if kind is None else query.where(Job.kind == kind)
        query = query if person is None else query.where(Job.person == person)
        with self.database.session() as session:
            return list(session.scalars(query))

    def ahead(self, job: Job) -> int:
        """How many jobs run before this one as things stand, the running one included."""
        with self.database.session() as session:
            running = select(func.count()).where(Job.state.in_(("running", "cancelling")))
            line = [other.id for other in self._line(session)]
            return (session.scalar(running) or 0) + (line.index(job.id) if job.id in line else 0)

    def _line(self, session: Session) -> list[Job]:
        """What is queued in the order in which it runs: a job a person in turn, each person's own oldest first."""
        rounds: Counter[str] = Counter()
        line = []
        for job in session.scalars(select(Job).where(Job.state == "queued").order_by(Job.created, Job.id)):
            line.append((rounds[job.person], self._turns.get(job.person, 0), job))
            rounds[job.person] += 1
        return [job for *_, job in sorted(line, key=itemgetter(0, 1))]

    def progress(self, job_id: str) -> Progress | None:
        """Live numbers, while it runs in this process."""
        running = self.running
        return running if running is not None and running.job_id == job_id else None

    def cancel(self, job_id: str) -> None:
        """Take it out of the queue, or let it stop after the current slice. Nothing happens to a job that has ended."""
        with self.database.session() as session:
            job = session.get(Job, job_id)
            if job is None:
                raise NotFoundError(f"There is no job {job_id[:40]!r}.", code="no_such_job")
            if job.state == "queued":
                job.state = "cancelled"
            elif job.state == "running":
                job.state = "cancelling"
                self._cancelled.add(job_id)

    def resume(self, job_id: str) -> None:
        """Queue a job again that was cancelled or has failed."""
        with self.database.session() as session:
            job = session.get(Job, job_id)
            if job is None:
                raise NotFoundError(f"There is no job {job_id[:40]!r}.", code="no_such_job")
            if job.state not in ("cancelled", "failed"):
                raise ConflictError(
                    f"The job is {job.state}; only one that has stopped can be resumed.", code="job_active"
                )
            job.state, job.message, job.updated = "queued", None, time.time()
        self._wake()

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended; ConflictError while it runs or waits."""
        with self.database.session() as session:
            job = session.get(Job, job_id)
            if job is None:
                raise NotFoundError(f"There is no job {job_id[:40]!r}.", code="no_such_job")
            if job.state in ACTIVE:
                raise ConflictError(f"The job is {job.state}.", code="job_active", hint="Cancel it first.")
            session.delete(job)

    # the thread

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _loop(self) -> None:
        """A database that is locked, full or away for a while stops nothing for good."""
        while (job := self._patiently(self._next)) is not None:
            state, message = self._run(job)
            self.running = None
            self._cancelled.discard(job.id)
            if state is not None:
                self._patiently(partial(self._save, job.id, state=state, message=message))

    def _patiently(self, work: Callable[[], T]) -> T | None:
        """What `work` gives once the database can be used; None when the program closes before."""
        while True:
            try:
                return work()
            except UnavailableError as error:
                log.error("jobs wait: %s", error.message)
            with self._changed:
                if self._closing or self._changed.wait_for(lambda: self._closing, AGAIN_SECONDS):
                    return None

    def _next(self) -> Job | None:
        """The first in line, marked as running; waits for one. None once closed."""
        while True:
            with self._changed:
                if self._closing:
                    return None
            with self.database.session() as session:
                if (job := next((job for job in self._line(session) if job.kind in self._runners), None)) is not None:
                    job.state = "running"
                    self._turns[job.person] = max(self._turns.values(), default=0) + 1
                    return job
            with self._changed:
                if not self._closing:
                    self._changed.wait(1.0)  # also for what another process has queued

    def _run(self, job: Job) -> tuple[str | None, str | None]:
        """The state it ends in and why; None when the program is closing, so that the next start goes on."""
        progress = self.running = Progress(job.id)
        try:
            saved = 0.0
            for step in self._runners[job.kind](job.id, job.model, job.config):
                progress.advance(step)
                if self._closing:
                    return None, None
                if job.id in self._cancelled:
                    raise _CancelledError
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save_progress(job.id, step)
                    saved = time.monotonic()
            self._save_progress(job.id, progress.step)
            return "finished", None
        except _CancelledError:
            return "cancelled", None
        except NullscopeError as error:
            if self._closing:
                return None, None
            return "failed", " ".join(filter(None, (error.message, error.hint)))
        except Exception as error:
            log.exception("job %s failed", job.id)
            return "failed", f"{type(error).__name__}: {error}"[:500]

    def _save_progress(self, job_id: str, step: Step) -> None:
        """For whoever asks after a restart: no reason to stop when it cannot be written now."""
        try:
            self._save(job_id, stage=step.stage, done=step.done, total=step.total)
        except UnavailableError as error:
            log.warning("progress of %s is not written down: %s", job_id, error.message)

    def _save(self, job_id: str, **values: Any) -> None:
        with self.database.session() as session:
            if (job := session.get(Job, job_id)) is not None:
                for name, value in {**values, "updated": time.time()}.items():
                    setattr(job, name, value)
