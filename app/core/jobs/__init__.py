"""Durable long work: submit, progress, cancel, resume after a restart without anyone asking.

    jobs = Jobs(database); jobs.register("sweep", runner); jobs.start()
    job_id = jobs.submit("sweep", model="demo", person="ann", config={...})

A runner is `runner(job_id, model, config)`: an iterator of `Step`s, each of which comes within about half a second,
so that a cancelled job ends soon. One job runs at a time, on a thread of its own. Jobs take turns of a few seconds, a
person in turn and each person's jobs in turn, so that a small one does not wait for the end of a large one. What a job
does on a device it does in slices (`ModelHost.slices`), between which the device serves people. The row in the database
survives a restart: a job that was queued or running is queued again, and its runner goes on from its own files.

As many as `MOST_OPEN` have begun and not ended, each with what it holds in memory. When another one's turn comes, one
that can go on from its files (`resumable`) and has finished a part since it began is put back into the queue.
"""

import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select

from analysis.types import NotFoundError, NullscopeError
from app.core.errors import BusyError, ConflictError, UnavailableError
from app.core.jobs.progress import Progress, Runner, Step
from app.core.jobs.turns import Open, Turns
from app.core.store import Database, Job, Session

log = logging.getLogger(__name__)
T = TypeVar("T")

ACTIVE = ("queued", "running", "cancelling")
FINAL = ("finished", "failed", "cancelled")
SAVE_SECONDS = 2.0  # how often the progress of a running job is written down
AGAIN_SECONDS = 2.0  # until a database that could not be reached or written is tried again
SLICE_SECONDS = 5.0  # a turn's length; a step that takes longer makes it longer
MOST_OPEN = 3  # jobs that have begun and not ended: each holds its buffers
STAY = 12  # turns at least that a job has before it makes room for another: beginning again takes time


class Jobs:
    """The jobs of one process. `start` takes up what an earlier process left.

    relieve: gives memory back; called after a job has let go of what it held. clock: seconds, for the turns.
    """

    def __init__(
        self,
        database: Database,
        *,
        per_person: int = 32,
        slice_seconds: float = SLICE_SECONDS,
        most_open: int = MOST_OPEN,
        stay: int = STAY,
        relieve: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.per_person = per_person
        self.slice_seconds, self.most_open, self.stay = slice_seconds, most_open, stay
        self._relieve, self._clock = relieve, clock
        self._runners: dict[str, Runner] = {}
        self._resumable: set[str] = set()
        self._changed = threading.Condition()
        self._cancelled: set[str] = set()
        self._turns = Turns()
        self._open: dict[str, Open] = {}  # changed by the thread alone
        self._current: str | None = None  # whose turn it is
        self._closing = False
        self._thread: threading.Thread | None = None

    def register(self, kind: str, runner: Runner, *, resumable: bool = False) -> None:
        """resumable: begun again, the runner goes on from what it has finished."""
        self._runners[kind] = runner
        if resumable:
            self._resumable.add(kind)

    def start(self) -> None:
        """Work off jobs on a thread. The caller holds the data folder, so that no other process does the same."""
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
            waiting = sum(other.person == person and other.state == "queued" for other in self._line(session))
            if waiting >= self.per_person:
                raise BusyError(
                    f"You have {waiting} jobs waiting.", retry_after=60, code="queue_full", hint="Cancel one, or wait."
                )
            session.add(job)
        self._wake()
        return job.id

    def get(self, job_id: str) -> Job:
        with self.database.reading() as session:
            if (job := session.get(Job, job_id)) is None:
                raise NotFoundError(f"There is no job {job_id[:40]!r}.", code="no_such_job")
            return job

    def every(self, kind: str | None = None, *, person: str | None = None) -> list[Job]:
        """Newest first; of one kind, of one person, or all."""
        query = select(Job).order_by(Job.created.desc(), Job.id)
        query = query if kind is None else query.where(Job.kind == kind)
        query = query if person is None else query.where(Job.person == person)
        with self.database.reading() as session:
            return list(session.scalars(query))

    def finished(self, kind: str, model: str) -> list[tuple[str, float]]:
        """(id, created) of a model's jobs of one kind that have finished; nothing else of them is read."""
        query = select(Job.id, Job.created).where(Job.kind == kind, Job.model == model, Job.state == "finished")
        with self.database.reading() as session:
            return [(name, created) for name, created in session.execute(query)]

    def ahead(self, job: Job) -> int:
        """How many jobs have a turn before this one, which waits, as things stand; the running one included."""
        return self.places().get(job.id, 0)

    def places(self) -> dict[str, int]:
        """`ahead` of every job that waits."""
        current = self._current
        with self.database.reading() as session:
            line = [job for job in self._line(session) if job.id != current]
        return {job.id: place + (current is not None) for place, job in enumerate(line) if job.state == "queued"}

    def _line(self, session: Session) -> list[Job]:
        """What waits or runs in the order of the next turns."""
        return self._turns.line(session.scalars(select(Job).where(Job.state.in_(("queued", "running")))))

    def progress(self, job_id: str) -> Progress | None:
        """Live numbers, while it runs in this process, whether or not it is its turn."""
        work = self._open.get(job_id)
        return None if work is None else work.progress

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
        while (work := self._next()) is not None:
            if (end := self._slice(work)) is not None:
                self._end(work, *end)
        for work in list(self._open.values()):
            self._let_go(work)

    def _next(self) -> Open | None:
        """The job whose turn it is, begun where it had not been; waits for one. None once closed."""
        while not self._closing:
            try:
                if (work := self._turn()) is not None:
                    return work
                self._pause(1.0)  # also for what another process has queued
            except UnavailableError as error:
                log.error("jobs wait: %s", error.message)
                if self._open:  # what has begun needs no database
                    return self._taking(self._open[self._turns.line(w.job for w in self._open.values())[0].id])
                self._pause(AGAIN_SECONDS)
        return None

    def _turn(self) -> Open | None:
        if (ended := next((name for name in self._open if name in self._cancelled), None)) is not None:
            return self._open[ended]
        with self.database.reading() as session:  # without the lock, which is asked for when there is one to begin
            line = self._line(session)
        for job in line:
            if (work := self._open.get(job.id)) is not None:
                return self._taking(work)
            if job.state == "queued" and job.kind in self._runners and self._room() and self._begun(job):
                return self._taking(self._opened(job))
        return None

    def _taking(self, work: Open) -> Open:
        self._turns.take(work.job)
        work.turns += 1
        self._current = work.job.id
        return work

    def _opened(self, job: Job) -> Open:
        work = Open(job, self._steps(job), job.kind in self._resumable, Progress(job.id))
        self._open[job.id] = work
        return work

    def _steps(self, job: Job) -> Iterator[Step]:
        """The runner's, which is called with the first of them."""
        yield from self._runners[job.kind](job.id, job.model, job.config)

    def _begun(self, job: Job) -> bool:
        """Marked as running; False when it was cancelled meanwhile."""
        with self.database.session() as session:
            found = session.get(Job, job.id)
            if found is None or found.state != "queued":
                return False
            found.state = "running"
            return True

    def _room(self) -> bool:
        """Room for one more that has begun; one that can go on later goes back into the queue if need be."""
        if len(self._open) < self.most_open:
            return True
        able = [work for work in self._open.values() if work.resumable and work.gained and work.turns >= self.stay]
        if not able:
            return False
        back = max(able, key=lambda work: self._turns.of(work.job))  # its next turn is the last of all
        self._save(back.job.id, state="queued")
        self._let_go(back)
        return True

    def _slice(self, work: Open) -> tuple[str, str | None] | None:
        """One turn: the state that the job ends in and why; None when it goes on, in this process or the next one."""
        until = self._clock() + self.slice_seconds
        try:
            while not self._closing:
                if work.job.id in self._cancelled:
                    return "cancelled", None
                if (step := next(work.steps, None)) is None:
                    self._save_progress(work)
                    return "finished", None
                work.advance(step)
                if work.due(SAVE_SECONDS):
                    self._save_progress(work)
                if step.idle or self._clock() >= until:
                    return None
        except Exception as error:
            return None if self._closing and isinstance(error, NullscopeError) else _failed(work.job.id, error)
        return None

    def _end(self, work: Open, state: str, message: str | None) -> None:
        """What it held is given back before anybody reads that it has ended."""
        self._let_go(work)
        self._turns.forget(work.job.id)
        self._cancelled.discard(work.job.id)
        self._patiently(partial(self._save, work.job.id, state=state, message=message))
        self._current = None

    def _let_go(self, work: Open) -> None:
        work.close()
        self._open.pop(work.job.id, None)
        if not self._closing:
            self._relieve()

    def _patiently(self, work: Callable[[], T]) -> T | None:
        """What `work` gives once the database can be used; None when the program closes before."""
        while True:
            try:
                return work()
            except UnavailableError as error:
                log.error("jobs wait: %s", error.message)
            self._pause(AGAIN_SECONDS)
            if self._closing:
                return None

    def _pause(self, seconds: float) -> None:
        """Until something has changed, the program closes, or the time is over."""
        with self._changed:
            if not self._closing:
                self._changed.wait(seconds)

    def _save_progress(self, work: Open) -> None:
        """For whoever asks after a restart: no reason to stop when it cannot be written now."""
        step = work.progress.step
        try:
            self._save(work.job.id, stage=step.stage, done=step.done, total=step.total)
        except UnavailableError as error:
            log.warning("progress of %s is not written down: %s", work.job.id, error.message)

    def _save(self, job_id: str, **values: Any) -> None:
        with self.database.session() as session:
            if (job := session.get(Job, job_id)) is not None:
                for name, value in {**values, "updated": time.time()}.items():
                    setattr(job, name, value)


def _failed(job_id: str, error: Exception) -> tuple[str, str]:
    """The end of a job that has raised this; what its frames held is let go, whoever keeps the error."""
    if isinstance(error, NullscopeError):
        message = error.told
    else:
        log.error("job %s failed", job_id, exc_info=error)
        message = f"{type(error).__name__}: {error}"[:500]
    traceback.clear_frames(error.__traceback__)
    return "failed", message
