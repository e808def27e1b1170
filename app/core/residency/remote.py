"""Models on a Ray cluster: one process a device there holds them; this one keeps the queue, and sends functions over.

`--engine ray` puts a `RemoteResident` where a `Resident` would be. What runs beside the model is the same code on the
same views, so the numbers are the same. The folder of a model must lie under the same path on every machine, and the
data folder too where sweeps are run. A worker that dies is started again by Ray and loads its models anew; the request
that it was busy with is computed again, an iteration that it was in the middle of ends with a 503.
"""

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from analysis import model as models
from analysis import reference
from analysis.distributed import Elsewhere, LostError
from analysis.reference import ReferenceMeans
from analysis.registry import ModelSpec
from analysis.types import ModelId
from app.core.errors import UnavailableError
from app.core.residency import local, means
from app.core.residency.cache import Cache, Files
from app.core.residency.facts import read_facts
from app.core.residency.memory import Memory
from app.core.residency.resident import MeansStatus, Resident
from app.core.residency.worker import POISONED_EXIT_CODE, free_memory, is_out_of_memory, is_poisoned
from app.core.settings import Settings

T = TypeVar("T")
END = "end"


@dataclass(frozen=True)
class Loading:
    """How a model is loaded, wherever that is."""

    spec: ModelSpec
    folder: Path
    counts: Path | None
    revision: str | None
    weights_sha256: str | None = None  # known once it was loaded: other weights in its place are not served for it


@dataclass(frozen=True)
class Card:
    """What the web process knows of a model that lies elsewhere; partial sweeps are merged with it."""

    key: str
    architecture: str
    d_model: int
    n_layers: int
    last_layer: int
    n_heads: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: str
    excluded_ids: frozenset[int]
    weights_sha256: str
    identity: ModelId
    device: torch.device


@dataclass(frozen=True)
class Counts:
    """Token counts that lie elsewhere."""

    source: str
    sha256: str


class Shelf:
    """The models of one worker process, on its one device. Lives over there."""

    def __init__(self, settings: Settings, device: str) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.settings = settings
        self.memory = Memory(device, settings.memory_bytes)
        self.cache = Cache(settings.cache_bytes)
        self.files = Files(settings.data_dir, settings.cache_disk_bytes)
        self.residents: dict[str, Resident] = {}
        self.iterators: dict[str, tuple[int, Iterator[Any]]] = {}

    def load(self, loading: Loading) -> tuple[Card, Counts | None, ReferenceMeans | None]:
        """(the model's card, its token counts, its stored means)."""
        resident = self._resident(loading)
        model = resident.model
        card = Card(**{name: getattr(model, name) for name in Card.__dataclass_fields__})
        unigram = resident.unigram
        counts = None if unigram is None else Counts(unigram.source, unigram.sha256)
        return card, counts, resident.means_status.value

    def call(self, loading: Loading, status: MeansStatus, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        resident = self._resident(loading)
        now = resident.means_status
        if now.value is None:
            now.state, now.done, now.total, now.error = status.state, status.done, status.total, status.error
        return self._safely(lambda: resident.call(function, *args))

    def begin(self, loading: Loading, token: str, make: Callable[..., Iterator[Any]]) -> None:
        resident = self._resident(loading)
        self.iterators[token] = 0, self._safely(lambda: resident.iterate(make))

    def step(self, token: str, place: int) -> Any:
        """The item at `place`; LostError when this process does not know the iteration, or is elsewhere in it."""
        at, items = self.iterators.get(token, (-1, iter(())))
        if at != place:
            raise LostError("The worker was lost in the middle.")
        self.iterators[token] = at + 1, items
        try:
            return self._safely(lambda: next(items))
        except StopIteration:
            del self.iterators[token]
            return END

    def drop(self, token: str) -> None:
        """An iteration that nobody goes on with."""
        _, items = self.iterators.pop(token, (0, None))
        if isinstance(items, Generator):
            items.close()

    def take_means(self, loading: Loading, found: ReferenceMeans) -> None:
        """Also written down, so that this process finds them when it is started again."""
        resident = self._resident(loading)
        resident.means_status.value, resident.means_status.state = found, "ready"
        text = means.text_file(self.settings, resident.model)
        if text is not None and text.is_file():
            self.files.write(means.key_of(self.settings, resident.model, text), partial(reference.save, found))

    def forget(self, key: str) -> None:
        if (resident := self.residents.pop(key, None)) is not None:
            resident.close()
        self.memory.models.pop(key, None)
        free_memory()

    def pid(self) -> int:
        return os.getpid()

    def _resident(self, loading: Loading) -> Resident:
        """The model, loaded if it is not there: after a restart nothing is. UnavailableError when its folder has
        other weights by now."""
        key = loading.spec.key
        if key not in self.residents:
            needed = read_facts(loading.folder).bytes_needed(self.settings.dtype)
            self.residents[key] = local.build(
                self.settings, loading.spec, loading.folder, self.memory, MeansStatus(),
                cache=self.cache, files=self.files, needed=needed,
                counts=loading.counts, revision=loading.revision, loader=models.load,
            )  # fmt: skip
        resident = self.residents[key]
        if loading.weights_sha256 not in (None, resident.model.weights_sha256):
            raise UnavailableError(
                f"The weights of {key} are not those that it was loaded with.",
                code="weights_changed",
                hint="Unload it and load it again.",
            )
        return resident

    @staticmethod
    def _safely(work: Callable[[], T]) -> T:
        """As a worker thread of the web process would: see `app.core.residency.worker`."""
        try:
            with torch.inference_mode():
                return work()
        except Exception as error:
            if is_poisoned(error):
                os._exit(POISONED_EXIT_CODE)
            if is_out_of_memory(error):
                error.__traceback__ = error.__context__ = None
                free_memory()
            raise


@dataclass
class RemoteResident:
    """A replica elsewhere, as `ModelHost` sees it."""

    process: Elsewhere
    loading: Loading
    model: Card
    unigram: Counts | None
    status: MeansStatus
    seconds: float

    @property
    def counts_sha256(self) -> str | None:
        return self.unigram.sha256 if self.unigram else None

    def close(self) -> None:
        """`Cluster.forget` closes what lies over there."""

    def call(self, function: Callable[..., T], *args: Any) -> T:
        status = replace(self.status, value=None)
        found: T = self._ask("call", self.loading, status, function, args)
        return found

    def iterate(self, make: Callable[..., Iterator[T]]) -> Iterator[T]:
        token, place = uuid.uuid4().hex, 0
        self._ask("begin", self.loading, token, make)
        return iter(_Steps(self, token, place))

    def take_means(self, means: ReferenceMeans) -> None:
        self._ask("take_means", self.loading, means)

    def _ask(self, name: str, *args: Any) -> Any:
        try:
            return self.process.ask(name, *args, seconds=self.seconds)
        except LostError as error:
            raise UnavailableError(
                f"A worker of the cluster was lost. {error.message}",
                code="worker_lost",
                retry_after=5,
                hint="It is being started again; ask once more.",
            ) from None


@dataclass
class _Steps(Iterator[Any]):
    resident: RemoteResident
    token: str
    place: int

    def __next__(self) -> Any:
        item = self.resident._ask("step", self.token, self.place)
        self.place += 1
        if isinstance(item, str) and item == END:
            raise StopIteration
        return item

    def close(self) -> None:
        self.resident._ask("drop", self.token)


class Cluster:
    """The workers of one server on a Ray cluster, made when the first model is placed on them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = [f"ray:{number}" for number in range(settings.ray_workers)]
        self._processes: dict[str, Elsewhere] = {}

    def place(self, name: str, loading: Loading, status: MeansStatus) -> RemoteResident:
        """The model on the worker `name`. Its stored means become the entry's."""
        process = self._process(name)
        card, counts, found = process.ask("load", loading, seconds=None)
        if found is not None and status.value is None:
            status.value, status.state = found, "ready"
        known = replace(loading, weights_sha256=card.weights_sha256)
        resident = RemoteResident(process, known, card, counts, status, self.settings.request_seconds)
        if found is None and status.value is not None:
            resident.take_means(status.value)
        return resident

    def forget(self, key: str) -> None:
        for process in self._processes.values():
            process.ask("forget", key, seconds=self.settings.request_seconds)

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _process(self, name: str) -> Elsewhere:
        if name not in self._processes:
            secrets = {"token": None, "key": None, "database_url": None}  # no business of the workers'
            settings, device = self.settings.model_copy(update=secrets), self.settings.device
            self._processes[name] = Elsewhere(
                lambda: Shelf(settings, found_there(device)),
                address=settings.ray_address,
                on_gpu=None if device == "auto" else device.startswith("cuda"),
            )
        return self._processes[name]


def found_there(device: str) -> str:
    """The device of a worker: what the setting says, or what its process sees."""
    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
