"""The neuron atlas of each model: computed when first asked for, a slice at a time, and kept under its content hash.

    atlas = await atlases.get("gpt2", patience=100)     # NotReadyError with the progress when it takes longer

Interactive requests go in between the slices. What was computed once is read from the data folder at the next start.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from analysis import atlas as numerics
from analysis.atlas import Atlas
from analysis.types import NotReadyError
from app.residency.host import HOUSE, ModelHost
from app.residency.resident import Resident

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 20.0
"""A table that could not be computed is tried again after this long; until then its error is the answer."""


@dataclass
class AtlasJob:
    """How far the atlas of one model is. Written by the background thread."""

    state: Literal["waiting", "computing", "ready", "failed"] = "waiting"
    done: int = 0
    total: int = 0
    stage: str = "waiting for its turn"
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    future: "Future[Atlas]" = field(default_factory=Future)

    @property
    def fraction(self) -> float | None:
        return self.done / self.total if self.total else None

    @property
    def eta(self) -> float | None:
        """Seconds left, by what the steps so far took."""
        if not self.done:
            return None
        return (time.monotonic() - self.started) * (self.total - self.done) / self.done


class Atlases:
    """One atlas a model, shared by everybody."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._jobs: dict[str, AtlasJob] = {}
        self._views: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="atlas")

    def job(self, key: str) -> AtlasJob:
        """The job of a served model, started by the first who asks; again some time after a failure."""
        self._host.entry(key)
        with self._lock:
            job = self._jobs.get(key)
            if job is None or (job.state == "failed" and time.monotonic() - job.ended > RETRY_SECONDS):
                job = self._jobs[key] = AtlasJob()
                self._background.submit(self._work, key, job)
        return job

    async def get(self, key: str, *, patience: float) -> Atlas:
        """The atlas; NotReadyError when it takes longer than ``patience`` seconds; what went wrong, if it did."""
        job = self.job(key)
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(asyncio.wrap_future(job.future))
        except TimeoutError:
            share = "" if job.fraction is None else f" {100 * job.fraction:.0f} % are done."
            raise NotReadyError(
                f"The atlas of {key} is being computed: {job.stage}.{share}",
                code="atlas_not_ready",
                hint="Ask again in a few seconds." if job.eta is None else f"About {job.eta:.0f} s are left.",
            ) from None

    def kept(self, name: tuple[Any, ...], build: Callable[[], T], *, most: int = 24) -> T:
        """Something small that follows from an atlas alone (columns of a layer for one k); the last few are kept."""
        with self._lock:
            if name in self._views:
                known: T = self._views.pop(name)
                self._views[name] = known  # now the last to go
                return known
        made = build()
        with self._lock:
            self._views[name] = made
            while len(self._views) > most:
                self._views.pop(next(iter(self._views)))
        return made

    def close(self) -> None:
        self._closing.set()
        self._background.shutdown(wait=True, cancel_futures=True)

    def _work(self, key: str, job: AtlasJob) -> None:
        try:
            atlas = self._read_or_compute(key, job)
        except BaseException as error:
            job.state, job.ended = "failed", time.monotonic()
            if not self._closing.is_set():
                log.warning("atlas of %s: %s", key, error)
            job.future.set_exception(error)
            return
        job.state, job.stage = "ready", "done"
        job.future.set_result(atlas)

    def _read_or_compute(self, key: str, job: AtlasJob) -> Atlas:
        self._host.wait(key)
        path = self._host.submit(key, file_of, self._host.settings.data_dir, who=HOUSE, kind="atlas").result()
        job.state, job.stage, job.started = "computing", "reading", time.monotonic()
        if (kept := numerics.load(path)) is not None:
            return kept
        for step in self._host.slices(key, steps, kind="atlas"):
            job.done, job.total, job.stage = step.done, step.total, step.stage
            if step.result is not None:
                numerics.save(step.result, path)
                return step.result
            if self._closing.is_set():
                raise NotReadyError("The server is shutting down.", code="shutting_down")
        raise AssertionError("the last step has the result")

    def __reduce__(self) -> Any:
        """In a worker elsewhere nothing is kept between requests."""
        return Unkept, ()


class Unkept:
    """What `Atlases.kept` is in another process."""

    def kept(self, name: tuple[Any, ...], build: Callable[[], T], *, most: int = 24) -> T:
        return build()


def file_of(resident: Resident, data_dir: Path) -> Path:
    return data_dir / "atlas" / f"{numerics.cache_key(resident.model, resident.unigram)}.safetensors"


def steps(resident: Resident) -> Iterator[numerics.Progress]:
    resident.memory.admit(numerics.working_bytes(resident.model), f"The atlas of {resident.key}")
    return numerics.compute(resident.model, resident.unigram)
