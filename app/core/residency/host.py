"""ModelHost: which models are in memory, and the only way to run anything on them.

    result = await host.run(key, function, *args)      # function(resident, *args) on the device's thread
    for item in host.slices(key, make_iterator): ...   # long work, a slice at a time, between interactive requests
    async for item in host.steps(key, make_iterator): ...   # the same for a request that waits

Models load on a background thread, so the process answers at once; a model that cannot be served keeps its reason.
"""

import asyncio
import logging
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from analysis import model as models
from analysis.folder import dequantized
from analysis.registry import ModelSpec, resolve
from analysis.types import InputError, NotFoundError, NullscopeError
from app.core.errors import UnavailableError
from app.core.residency import averaging, local
from app.core.residency.cache import Cache, Files
from app.core.residency.devices import devices
from app.core.residency.entry import Entry
from app.core.residency.facts import read_facts
from app.core.residency.hub import HubClient, HubModels
from app.core.residency.local import Loader
from app.core.residency.memory import Memory
from app.core.residency.published import PUBLISHED
from app.core.residency.queue import Lane
from app.core.residency.remote import Cluster, Loading
from app.core.residency.replica import Replica
from app.core.residency.resident import Resident
from app.core.residency.single_flight import Flights, InFlight
from app.core.residency.sliced_job import HOUSE, Places, SlicedJob
from app.core.residency.worker import Worker, free_memory, trim
from app.core.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
ANYONE = "anyone"
LONG_WORK = "jobs"  # one line for all of it: jobs take turns before they come here


class ModelHost:
    """Owns the device workers and the served models of one process."""

    def __init__(self, settings: Settings, *, hub: HubClient | None = None, loader: Loader = models.load) -> None:
        self.settings = settings
        self.hub = HubModels(settings.data_dir, hub, allow_download=settings.allow_download)
        self.entries: dict[str, Entry] = {}
        for name in settings.models:
            self._add(resolve(name), at_start=True)
        self.cluster = Cluster(settings) if settings.engine == "ray" else None
        self.workers = {
            device: Worker(device, queue_size=settings.queue_size, per_person=settings.queue_per_person)
            for device in (self.cluster.names if self.cluster else devices(settings.device))
        }
        self.memory = {device: Memory(device, settings.memory_bytes) for device in self.workers}
        self.cache = Cache(settings.cache_bytes)
        self.files = Files(settings.data_dir, settings.cache_disk_bytes)
        self._loader = loader
        self._background = ThreadPoolExecutor(1, thread_name_prefix="host-background")
        self.flights = Flights()
        self.places = Places(size=settings.queue_size, per_person=settings.queue_per_person)
        self.counts: Counter[str] = Counter()  # models loaded, failed: see /metrics
        self._closing = threading.Event()

    def _add(self, spec: ModelSpec, *, at_start: bool = False) -> Entry:
        if spec.key in self.entries:
            raise InputError(f"Two models are called {spec.key!r}.", code="duplicate_model", hint="Rename a folder.")
        entry = self.entries[spec.key] = Entry(spec, at_start=at_start)
        return entry

    # life

    def start(self) -> None:
        """Start the workers, and load the models in the background. Returns at once."""
        # It warns on every hooked norm that the norm was recomputed; that is what the hook is for.
        warnings.filterwarnings("ignore", category=UserWarning, module="transformer_lens")
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        for worker in self.workers.values():
            worker.start()
        for entry in self.entries.values():
            self._background.submit(self._load, entry)

    def close(self) -> None:
        """End the running request at its next check, refuse what waits, stop the background work."""
        self._closing.set()
        for worker in self.workers.values():
            worker.close()
        self._background.shutdown(wait=True, cancel_futures=True)
        if self.cluster:
            self.cluster.close()

    @property
    def awaited(self) -> list[str]:
        """What this server cannot yet do without: models named at start that are on their way; where there is none
        that was loaded, all of them. One that failed, or is loaded later on, keeps nobody from the others."""
        entries = list(self.entries.items())
        on_their_way = [key for key, entry in entries if entry.at_start and entry.state in ("waiting", "loading")]
        if on_their_way or any(entry.state == "loaded" for _, entry in entries):
            return on_their_way
        return [key for key, _ in entries]

    def awaiting(self, key: str, seconds: float = 0.5) -> Iterator[None]:
        """Ends once a model is loaded or has failed, with an item every so often until then. Not on the event loop."""
        entry = self.entry(key)
        while not entry.settled.wait(seconds):
            yield

    def wait(self, key: str, timeout: float | None = None) -> Entry:
        """Block until a model is loaded or has failed (not on the event loop)."""
        entry = self.entry(key)
        if not entry.settled.wait(timeout):
            raise UnavailableError(f"{key} is still loading.", code="model_loading")
        return entry

    # models

    @property
    def default_key(self) -> str:
        return next(iter(self.entries))

    def entry(self, key: str) -> Entry:
        """A served model; NotFoundError naming those there are."""
        if (entry := self.entries.get(key)) is None:
            raise NotFoundError(
                f"No model {key[:60]!r} is served here.",
                code="unknown_model",
                hint=f"Served: {', '.join(self.entries)}.",
            )
        return entry

    def serve(self, spec: ModelSpec) -> Entry:
        """Add a model of the allow-list while the program runs (an administrator's wish); loads in the background.
        InputError where it is here already, loaded or failed."""
        if (before := self.entries.get(spec.key)) is not None and before.spec == spec:
            hint = "Unload it first, to load it again."
            raise InputError(f"{spec.key} is here already.", code="model_is_here", hint=hint)
        entry = self._add(spec)
        self._background.submit(self._load, entry)
        return entry

    def unload(self, key: str) -> None:
        """Forget a model with all that was kept of it, and free its memory; requests that are already queued still get
        their answer."""
        entry = self.entries.pop(self.entry(key).spec.key)
        self._leave(entry)
        if self.cluster:
            self._background.submit(self.cluster.forget, key)
        self._background.submit(free_memory)

    def _leave(self, entry: Entry) -> None:
        replicas, entry.replicas = entry.replicas, []
        identity, entry.identity = entry.identity, None
        for worker, placed in replicas:
            self.memory[worker.device].models.pop(entry.spec.key, None)
            placed.close()
        if identity is not None:
            self.cache.close(identity)

    # running

    @property
    def loads(self) -> frozenset[int]:
        """Of the models that are served now."""
        return frozenset(entry.load for entry in list(self.entries.values()))

    def in_flight(self, key: str, question: str) -> InFlight:
        """What makes two requests about a model one. question: what is asked of it, with every option."""
        entry = self.entry(key)
        return InFlight(entry.load, entry.identity, question)

    async def run(
        self,
        key: str,
        function: Callable[..., T],
        *args: Any,
        who: str = ANYONE,
        kind: str | None = None,
        lane: Lane = "interactive",
        identity: str | None = None,
    ) -> T:
        """`function(resident, *args)` on the thread of the model's device; the event loop only waits.

        who: whose turn it takes in the queue. identity: the question with every option; equal ones about a model in
        flight are computed once. A caller that is cancelled takes it out of the queue, or ends it between two blocks.
        Raises what the function raises; BusyError
        when the queue is full, UnavailableError when the model is not loaded or `request_seconds` have passed.
        """
        worker, placed = self.replica(key)
        submit = partial(worker.submit, who=who, kind=kind or function.__name__, lane=lane)
        same = self.in_flight(key, identity) if identity else None
        with self.flights.seat(same, who, lambda: placed.call(function, *args), submit) as ticket:
            try:
                async with asyncio.timeout(self.settings.request_seconds):
                    result: T = await asyncio.shield(asyncio.wrap_future(ticket.future))
                    return result
            except TimeoutError:
                raise UnavailableError(
                    f"The request took longer than {self.settings.request_seconds:g} s.", code="timeout", retry_after=10
                ) from None

    def submit(
        self,
        key: str,
        function: Callable[..., T],
        *args: Any,
        who: str = ANYONE,
        kind: str | None = None,
        lane: Lane = "batch",
    ) -> "Future[T]":
        """The same from another thread (never the event loop's): a future to wait for."""
        worker, placed = self.replica(key)
        work = partial(placed.call, function, *args)
        return worker.submit(work, who=who, kind=kind or function.__name__, lane=lane).future

    def slices(
        self, key: str, make: Callable[[Resident], Iterator[T]], *, who: str = HOUSE, kind: str = "batch"
    ) -> Iterator[T]:
        """Long work from a thread of its own: each `next` of the iterator is one ticket of the batch lane."""
        yield from SlicedJob(*self.replica(key), make, who, kind).on_thread()

    async def steps(
        self, key: str, make: Callable[[Resident], Iterator[T]], *, who: str = ANYONE, kind: str = "batch"
    ) -> AsyncGenerator[T]:
        """`slices` for a request that waits for them, a bounded number at once: BusyError. Close it to end it."""
        with self.places.taken_by(who):
            async with aclosing(SlicedJob(*self.replica(key), make, who, kind).on_loop()) as items:
                async for item in items:
                    yield item

    def replica(self, key: str) -> tuple[Worker, Replica]:
        """The replica on the device with the least to do; UnavailableError while there is none."""
        return self.replica_of(self.entry(key))

    @staticmethod
    def replica_of(entry: Entry) -> tuple[Worker, Replica]:
        """The same of one load of a model, whatever its name stands for now."""
        key = entry.spec.key
        if entry.state == "failed":
            raise UnavailableError(f"{key} could not be loaded: {entry.error}", code="model_failed")
        if not entry.replicas:
            raise UnavailableError(
                f"{key} is still loading.", code="model_loading", retry_after=2, hint="/readyz says when it is there."
            )
        return min(entry.replicas, key=lambda replica: replica[0].depth)

    def loaded(self) -> list[Any]:
        """The models that are here now, each once (`Replica.model`)."""
        return [replicas[0][1].model for entry in self.entries.values() if (replicas := [*entry.replicas])]

    def relieve(self) -> None:
        """Give back the memory that long work has left behind, on each device's thread behind what it still had there.

        Not on the event loop.
        """
        beside = {worker: placed for entry in list(self.entries.values()) for worker, placed in entry.replicas}
        for worker, placed in beside.items():
            with suppress(UnavailableError):  # shutting down
                work = partial(placed.call, _release)
                worker.submit(work, who=LONG_WORK, kind="memory", lane="batch").future.result()
        trim()

    # loading, on the background thread

    def _load(self, entry: Entry) -> None:
        entry.state = "loading"
        started = time.monotonic()
        try:
            self._place(entry)
            entry.state = "loaded"
            self.counts["loaded"] += 1
            log.info("loaded %s in %.1f s", entry.spec.key, time.monotonic() - started)
        except NullscopeError as error:
            self._failed(entry, error.told)
        except Exception as error:
            log.exception("loading %s failed", entry.spec.key)
            self._failed(entry, (str(error).strip().splitlines() or [type(error).__name__])[0][:300])
        if self.entries.get(entry.spec.key) is not entry:  # unloaded while it was loading
            self._leave(entry)
        entry.settled.set()
        if entry.replicas and entry.means.value is None and not self._closing.is_set():
            entry.means.state = "waiting"
            self._background.submit(self._compute_means, entry)
        else:
            entry.means_settled.set()

    def _failed(self, entry: Entry, reason: str) -> None:
        log.error("%s cannot be served: %s", entry.spec.key, reason)
        self.counts["load_failed"] += 1
        entry.state, entry.error = "failed", reason
        entry.replicas.clear()
        free_memory()

    def _place(self, entry: Entry) -> None:
        """Find the folder, make sure that it fits, load one replica on every device."""
        folder = entry.spec.folder
        if folder is None:
            self._admit_download(entry)
            snapshot = self.hub.fetch(entry.spec)
            folder, entry.revision = snapshot.folder, snapshot.commit
        entry.spec, entry.folder = replace(entry.spec, dequantized=dequantized(folder)), folder
        entry.facts = read_facts(folder)
        replicas: list[tuple[Worker, Replica]] = []
        try:
            for device, worker in self.workers.items():
                if self._closing.is_set():
                    raise UnavailableError("The server is shutting down.", code="shutting_down")
                replicas.append((worker, self._placed(entry, folder, device)))
        except BaseException:
            for _, placed in replicas:
                placed.close()
            raise
        entry.identity = replicas[0][1].model.identity
        self.cache.open(entry.identity)
        entry.replicas = replicas

    def _placed(self, entry: Entry, folder: Path, device: str) -> Replica:
        """One replica. On a cluster, loading is the worker's business: its memory is not this machine's."""
        counts = self._counts(entry.spec)
        if self.cluster:
            return self.cluster.place(device, Loading(entry.spec, folder, counts, entry.revision), entry.means)
        assert entry.facts is not None
        return local.build(
            self.settings,
            entry.spec,
            folder,
            self.memory[device],
            entry.means,
            cache=self.cache,
            files=self.files,
            needed=entry.facts.bytes_needed(self.settings.dtype),
            counts=counts,
            revision=entry.revision,
            loader=self._loader,
        )

    def _admit_download(self, entry: Entry) -> None:
        """Gigabytes that could not be loaded afterwards are not fetched."""
        entry.facts = PUBLISHED.get(entry.spec.key)
        if entry.facts is not None and self.hub.local(entry.spec) is None:
            needed = entry.facts.bytes_needed(self.settings.dtype)
            for memory in self.memory.values():
                memory.admit(needed, f"Loading {entry.spec.key}")

    def _counts(self, spec: ModelSpec) -> Path | None:
        """File of token counts: the one the operator named, the model's own, or the one in the data folder."""
        pairs = (entry.rpartition("=") for entry in self.settings.counts)
        named = {key or self.default_key: file for key, _, file in pairs}
        own = self.settings.data_dir / "unigrams" / f"{spec.key}.npy"
        return Path(named[spec.key]) if spec.key in named else spec.counts or (own if own.is_file() else None)

    def renew_means(self, key: str) -> None:
        """Take a model's means anew, in the background: its text is another. The old ones serve meanwhile."""
        entry = self.entry(key)
        entry.means.state, entry.means.error = "waiting", None
        entry.means_settled.clear()
        self._background.submit(self._renew_means, entry)

    def _renew_means(self, entry: Entry) -> None:
        averaging.renew(entry, self.replica_of, self.settings, self.files, self._closing, stored=not self.cluster)

    def _compute_means(self, entry: Entry) -> None:
        averaging.compute(entry, self.replica_of, self.settings, self.files, self._closing)


def _release(resident: Resident) -> None:
    free_memory()
