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
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from analysis import model as models
from analysis.reference import ReferenceMeans
from analysis.registry import ModelSpec, resolve
from analysis.types import InputError, NotFoundError, NullscopeError
from app.errors import UnavailableError
from app.residency import local, means
from app.residency.facts import Facts, read_facts
from app.residency.flights import Flights
from app.residency.hub import HubClient, HubModels
from app.residency.local import Loader
from app.residency.memory import Memory
from app.residency.placed import Placed
from app.residency.published import PUBLISHED
from app.residency.queue import Lane
from app.residency.remote import Cluster, Loading
from app.residency.resident import MeansStatus, Resident
from app.residency.walk import Places, Walk
from app.residency.worker import Worker, free_memory
from app.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
State = Literal["waiting", "loading", "loaded", "failed"]
ANYONE = "anyone"
HOUSE = "nullscope"  # the program's own background work


@dataclass
class Entry:
    """One served model: what is known of it, and its replicas (one a device)."""

    spec: ModelSpec
    state: State = "waiting"
    error: str | None = None
    facts: Facts | None = None
    revision: str | None = None
    replicas: list[tuple[Worker, Placed]] = field(default_factory=list)
    means: MeansStatus = field(default_factory=MeansStatus)
    settled: threading.Event = field(default_factory=threading.Event)  # loaded or failed
    means_settled: threading.Event = field(default_factory=threading.Event)  # there, or never to come


class ModelHost:
    """Owns the device workers and the served models of one process."""

    def __init__(self, settings: Settings, *, hub: HubClient | None = None, loader: Loader = models.load) -> None:
        self.settings = settings
        self.hub = HubModels(settings.data_dir, hub, allow_download=settings.allow_download)
        self.entries: dict[str, Entry] = {}
        for name in settings.models:
            self._add(resolve(name))
        self.cluster = Cluster(settings) if settings.engine == "ray" else None
        self.workers = {
            device: Worker(device, queue_size=settings.queue_size, per_person=settings.queue_per_person)
            for device in (self.cluster.names if self.cluster else devices(settings.device))
        }
        self.memory = {device: Memory(device, settings.memory_bytes) for device in self.workers}
        self._loader = loader
        self._background = ThreadPoolExecutor(1, thread_name_prefix="host-background")
        self.flights = Flights()
        self.places = Places(size=settings.queue_size, per_person=settings.queue_per_person)
        self.counts: Counter[str] = Counter()  # models loaded, failed: see /metrics
        self._closing = threading.Event()

    def _add(self, spec: ModelSpec) -> Entry:
        if spec.key in self.entries:
            raise InputError(f"Two models are called {spec.key!r}.", code="duplicate_model", hint="Rename a folder.")
        entry = self.entries[spec.key] = Entry(spec)
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
        """Let the running request finish, refuse what waits, stop the background work."""
        self._closing.set()
        for worker in self.workers.values():
            worker.close()
        self._background.shutdown(wait=True, cancel_futures=True)
        if self.cluster:
            self.cluster.close()

    @property
    def ready(self) -> bool:
        """Whether every model named at start is loaded."""
        return all(entry.state == "loaded" for entry in self.entries.values())

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

    def serve(self, name: str) -> Entry:
        """Add a model of the allow-list while the program runs (an administrator's wish); loads in the background."""
        entry = self._add(resolve(name))
        self._background.submit(self._load, entry)
        return entry

    def unload(self, key: str) -> None:
        """Forget a model and free its memory; requests that are already queued still get their answer."""
        entry = self.entries.pop(self.entry(key).spec.key)
        for worker, _ in entry.replicas:
            self.memory[worker.device].models.pop(key, None)
        entry.replicas.clear()
        if self.cluster:
            self._background.submit(self.cluster.forget, key)
        free_memory()

    # running

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

        who: whose turn it takes in the queue. identity: equal identities in flight are computed once. A caller that is
        cancelled takes it out of the queue, or ends it between two blocks. Raises what the function raises; BusyError
        when the queue is full, UnavailableError when the model is not loaded or `request_seconds` have passed.
        """
        worker, placed = self.replica(key)
        submit = partial(worker.submit, who=who, kind=kind or function.__name__, lane=lane)
        with self.flights.seat(identity, who, lambda: placed.call(function, *args), submit) as ticket:
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
        yield from Walk(*self.replica(key), make, who, kind).on_thread()

    async def steps(
        self, key: str, make: Callable[[Resident], Iterator[T]], *, who: str = ANYONE, kind: str = "batch"
    ) -> AsyncGenerator[T]:
        """`slices` for a request that waits for them, a bounded number at once: BusyError. Close it to end it."""
        with self.places.taken_by(who):
            async with aclosing(Walk(*self.replica(key), make, who, kind).on_loop()) as items:
                async for item in items:
                    yield item

    def replica(self, key: str) -> tuple[Worker, Placed]:
        """The replica on the device with the least to do; UnavailableError while there is none."""
        entry = self.entry(key)
        if entry.state == "failed":
            raise UnavailableError(f"{key} could not be loaded: {entry.error}", code="model_failed")
        if not entry.replicas:
            raise UnavailableError(
                f"{key} is still loading.", code="model_loading", retry_after=2, hint="/readyz says when it is there."
            )
        return min(entry.replicas, key=lambda replica: replica[0].depth)

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
            self._failed(entry, f"{error.message}" + (f" {error.hint}" if error.hint else ""))
        except Exception as error:
            log.exception("loading %s failed", entry.spec.key)
            self._failed(entry, (str(error).strip().splitlines() or [type(error).__name__])[0][:300])
        entry.settled.set()
        if entry.state == "loaded" and entry.means.value is None and not self._closing.is_set():
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
        entry.facts = read_facts(folder)
        replicas: list[tuple[Worker, Placed]] = []
        for device, worker in self.workers.items():
            if self._closing.is_set():
                raise UnavailableError("The server is shutting down.", code="shutting_down")
            replicas.append((worker, self._placed(entry, folder, device)))
        entry.replicas = replicas

    def _placed(self, entry: Entry, folder: Path, device: str) -> Placed:
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

    def _compute_means(self, entry: Entry) -> None:
        """Average the activations over the reference text, a row a slice, and keep the result for the next start."""
        status = entry.means
        try:
            for step in self.slices(entry.spec.key, partial(means.steps, settings=self.settings), kind="means"):
                status.state, status.done, status.total = "computing", step.done, step.total
                if step.result is not None:
                    self._share(entry, step.result)
                if self._closing.is_set():
                    return
        except means.NoTextError:
            status.state = "none"
        except Exception as error:
            if not self._closing.is_set():
                log.warning("reference means of %s: %s", entry.spec.key, error)
            status.state, status.error = "failed", str(error)[:300]
        finally:
            entry.means_settled.set()

    @staticmethod
    def _share(entry: Entry, found: ReferenceMeans) -> None:
        """Every replica has the means, then everybody sees that they are ready."""
        for worker, placed in entry.replicas:
            worker.submit(partial(placed.take_means, found), who=HOUSE, kind="means", lane="batch").future.result()
        entry.means.value, entry.means.state = found, "ready"


def devices(setting: str) -> list[str]:
    """The device names of the setting; auto: cuda, then mps, then cpu."""
    if setting != "auto":
        return [_present(name) for name in dict.fromkeys(part.strip() for part in setting.split(","))]
    if torch.cuda.is_available():
        return ["cuda"]
    return ["mps" if torch.backends.mps.is_available() else "cpu"]


def _present(name: str) -> str:
    """A device name, or InputError when this machine has no such device."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):  # whatever the backend raises when it is not there
        raise InputError(
            f"There is no device {name!r} here.", code="no_such_device", hint=f"There is: {', '.join(devices('auto'))}."
        ) from None
    return name
