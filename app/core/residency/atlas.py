"""The neuron atlas of each model: computed when first asked for, a slice at a time, and kept under what it depends on.

    atlas = await atlases.get("gpt2", patience=100)     # NotReadyError with the progress when it takes longer

Interactive requests go in between the slices. What was computed once is read from the data folder at the next start.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from weakref import WeakKeyDictionary

from analysis import atlas as numerics
from analysis import shipped_atlas
from analysis.atlas import Atlas
from analysis.types import NotReadyError
from app.core.errors import ConflictError
from app.core.residency.cache import EVERYWHERE, Key, Kind
from app.core.residency.entry import Entry
from app.core.residency.host import ModelHost
from app.core.residency.replica import Replica
from app.core.residency.resident import Resident
from app.core.residency.sliced_job import HOUSE, SlicedJob

log = logging.getLogger(__name__)

ATLAS = Kind("atlas", "analysis.atlas", on_disk=True)

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
    """One atlas a loaded model, shared by everybody."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._jobs: WeakKeyDictionary[Entry, AtlasJob] = WeakKeyDictionary()  # under way, or failed
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="atlas")

    def job(self, key: str) -> AtlasJob:
        """The job of a served model, started by the first who asks; again some time after a failure."""
        entry = self._host.entry(key)
        with self._lock:
            job = self._jobs.get(entry)
            if job is None and (atlas := self._kept(entry)) is not None:
                return _done(AtlasJob(), atlas)
            if job is None or (job.state == "failed" and time.monotonic() - job.ended > RETRY_SECONDS):
                job = self._jobs[entry] = AtlasJob()
                self._background.submit(self._work, entry, job)
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

    def close(self) -> None:
        self._closing.set()
        self._background.shutdown(wait=True, cancel_futures=True)

    def _kept(self, entry: Entry) -> Atlas | None:
        found: Atlas | None = self._host.cache.get(key_of(entry.replicas[0][1])) if entry.replicas else None
        return found

    def _work(self, entry: Entry, job: AtlasJob) -> None:
        try:
            atlas = self._read_or_compute(entry, job)
        except BaseException as error:
            job.state, job.ended = "failed", time.monotonic()
            if not self._closing.is_set():
                log.warning("atlas of %s: %s", entry.spec.key, error)
            job.future.set_exception(error)
            return
        _done(job, atlas)
        with self._lock:
            self._jobs.pop(entry, None)  # from now on the cache has it, or the disk

    def _read_or_compute(self, entry: Entry, job: AtlasJob) -> Atlas:
        """All of it beside one load of the model, whatever its name stands for meanwhile."""
        entry.settled.wait()
        worker, placed = self._host.replica_of(entry)
        key, files = key_of(placed), self._host.files
        job.state, job.stage, job.started = "computing", "reading", time.monotonic()
        found = files.read(key, numerics.load) or _shipped(placed)
        if found is None:
            found = self._computed(SlicedJob(worker, placed, steps, HOUSE, "atlas"), job)
            files.write(key, partial(numerics.save, found))
        self._host.cache.put(key, found)
        return found

    def _computed(self, walk: "SlicedJob[numerics.Progress]", job: AtlasJob) -> Atlas:
        for step in walk.on_thread():
            job.done, job.total, job.stage = step.done, step.total, step.stage
            if step.result is not None:
                return step.result
            if self._closing.is_set():
                raise NotReadyError("The server is shutting down.", code="shutting_down")
        raise AssertionError("the last step has the result")


def _shipped(placed: Replica) -> Atlas | None:
    """What ships of these weights and counts; None on a cluster, whose readout is not here."""
    if not isinstance(placed, Resident):
        return None
    home = placed.model.spec.home
    if home is None or not (home / shipped_atlas.FILE).is_file():
        return None
    found = shipped_atlas.read(home / shipped_atlas.FILE)
    return found.whole(placed.model.readout) if found.of(placed.model, placed.counts_sha256) else None


def _done(job: AtlasJob, atlas: Atlas) -> AtlasJob:
    job.state, job.stage = "ready", "done"
    job.future.set_result(atlas)
    return job


def key_of(placed: Replica) -> Key:
    """What the table depends on beside the model: the token counts, and the kind of device for its last digits."""
    return Key(placed.model.identity, ATLAS, EVERYWHERE, (placed.counts_sha256, placed.model.device.type))


def steps(resident: Resident) -> Iterator[numerics.Progress]:
    resident.memory.admit(numerics.working_bytes(resident.model), f"The atlas of {resident.key}")
    return numerics.compute(resident.model, resident.unigram)


def of_this_model(atlas: Atlas, resident: Resident) -> Atlas:
    """The atlas; ConflictError when the model was loaded anew, with other weights, since it was had."""
    if atlas.weights_sha256 != resident.model.weights_sha256:
        raise ConflictError(
            f"{resident.key} was loaded again, with other weights, while this was asked.",
            code="weights_changed",
            hint="Ask again.",
        )
    return atlas
