"""What is kept of what was computed for a model, in memory and on disk: the only caches of the program.

    RHO = Kind("rho", "analysis.nullspace")                # at module level: what it is, and whose code computes it

    cache.open(model)                                      # when it is loaded
    cache.cached(Key(model, RHO, place, (layer, k)), build)  # built once, kept as long as there is room
    cache.close(model)                                     # when it is unloaded: everything of it is dropped

A key names all that a value depends on: which model exactly, the kind of value, where it lies, every other input, and
the code. A test (tests/contracts/test_caches.py) finds what is kept elsewhere.
"""

import hashlib
import logging
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch

from analysis import code
from analysis.files import on_disk
from analysis.types import DiskFullError, InputError, ModelId

log = logging.getLogger(__name__)

T = TypeVar("T")

EVERYWHERE = ""
"""The place of what belongs to no replica: it is the same under every name and on every device."""

_SAMPLED = 128
"""Items at each end of a long list that stand for all when its bytes are estimated."""


class Kind:
    """A kind of value that is kept: it follows from a model, the inputs and the code of some modules. Names are unique.

    on_disk: `Files` keeps it as well.
    """

    every: ClassVar[dict[str, "Kind"]] = {}

    def __init__(self, name: str, *modules: str, on_disk: bool = False) -> None:
        if name in Kind.every:
            raise ValueError(f"Two kinds are called {name!r}.")
        self.name, self.modules, self.on_disk = name, modules, on_disk
        Kind.every[name] = self

    @property
    def code(self) -> str:
        """The version of the code that computes it."""
        return code.version(*self.modules)


@dataclass(frozen=True, slots=True)
class Key:
    """What a value depends on; no part has a default. place: the replica that it belongs to (views name the model,
    tensors lie on a device), or EVERYWHERE. inputs: all that it depends on beside the model and the code: token counts,
    a text, k, evidence; large ones by their hash."""

    model: ModelId
    kind: Kind
    place: str
    inputs: tuple[Hashable, ...]

    @property
    def name(self) -> str:
        """For a file: the same wherever and whenever the same is computed."""
        model, kind = self.model, self.kind
        whole = repr((model.weights_sha256, model.dtype, model.form_sha256, kind.name, self.inputs, kind.code))
        return f"{model.weights_sha256[:12]}-{model.dtype}-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


class Cache:
    """Values in memory, ``max_bytes`` at most; what was used longest ago makes room. For any thread."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._values: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._open: Counter[ModelId] = Counter()
        self._lock = threading.Lock()

    def open(self, model: ModelId) -> None:
        """A model is loaded, once more: values of it are kept from now on."""
        with self._lock:
            self._open[model] += 1

    def close(self, model: ModelId) -> None:
        """It is unloaded. After the last time nothing of it is here, and nothing of it is taken in any more."""
        with self._lock:
            self._open[model] -= 1
            self._open += Counter()  # forgets those at zero
            if model not in self._open:
                for key in [key for key in self._values if key.model == model]:
                    self._drop(key)

    def cached(self, key: Key, build: Callable[[], T]) -> T:
        """The value of a key, built if it is not here."""
        with self._lock:
            if key in self._values:
                self.hits += 1
                self._values.move_to_end(key)
                known: T = self._values[key][0]
                return known
        made = build()
        self.put(key, made)
        return made

    def get(self, key: Key) -> Any | None:
        """The value of a key if it is here."""
        with self._lock:
            if key not in self._values:
                return None
            self.hits += 1
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Key, value: Any) -> None:
        """Keep a value, unless its model is unloaded or it is larger than everything that may be kept."""
        size = bytes_of(value)
        with self._lock:
            if key.model not in self._open or size > self.max_bytes:
                return
            if key in self._values:
                self._drop(key)
            self._values[key] = value, size
            self.bytes += size
            while self.bytes > self.max_bytes:
                self._drop(next(iter(self._values)))

    def held(self) -> list[Key]:
        """The keys of what is here, that which was used longest ago first."""
        with self._lock:
            return list(self._values)

    def _drop(self, key: Key) -> None:
        self.bytes -= self._values.pop(key)[1]


class Files:
    """The same on disk, a file a key: <folder>/<kind>/<name of the key>. Weights that come back find theirs again;
    what was read longest ago makes room beyond ``max_bytes``."""

    SUFFIX = ".safetensors"

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def path(self, key: Key) -> Path:
        if not key.kind.on_disk:
            raise ValueError(f"{key.kind.name!r} is not kept on disk.")
        return self.folder / key.kind.name / f"{key.name}{self.SUFFIX}"

    def read(self, key: Key, load: Callable[[Path], T]) -> T | None:
        """The value of a key; None where there is none. A damaged file is removed."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            found = load(path)
        except InputError:
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # somebody else's file may be read all the same
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return found

    def write(self, key: Key, save: Callable[[Path], None]) -> None:
        """Keep a value: `save` writes it to the path. Where the disk is full it is not kept, and computed again."""
        path = self.path(key)
        try:
            with on_disk(path.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                save(path)
        except DiskFullError as error:
            log.warning("%s", error.told)
            return
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        folders = [self.folder / kind.name for kind in Kind.every.values() if kind.on_disk]
        files = [file for folder in folders for file in folder.glob(f"*{self.SUFFIX}")]
        known = sorted((_used(file.stat()), file.stat().st_size, file) for file in files)
        total = sum(size for _, size, _ in known)
        for _, size, file in known:
            if total > self.max_bytes and file != newest:
                file.unlink(missing_ok=True)
                total -= size


def _used(state: os.stat_result) -> int:
    return max(state.st_mtime_ns, state.st_atime_ns)


def bytes_of(value: Any) -> int:
    """About how many bytes a value takes, its parts counted once; long lists by a sample of their items."""
    return _bytes_of(value, set())


def _bytes_of(value: Any, seen: set[int]) -> int:
    if value is None or isinstance(value, bool | int | float):
        return 32
    if id(value) in seen:
        return 8
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        known = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        return 128 if known else storage.nbytes() + 128
    if isinstance(value, np.ndarray):
        return (value.base if isinstance(value.base, np.ndarray) else value).nbytes + 128
    if isinstance(value, str | bytes):
        return len(value) + 64
    if isinstance(value, Mapping):
        return 64 + _of_items(list(value.keys()), seen) + _of_items(list(value.values()), seen)
    if isinstance(value, Sequence | Set):
        return _of_items(value if isinstance(value, Sequence) else list(value), seen)
    if isinstance(value, type | FunctionType | ModuleType):
        return 64
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    parts = [getattr(value, name) for name in slots - {"__dict__", "__weakref__"} if hasattr(value, name)]
    return 64 + sum(_bytes_of(part, seen) for part in [*parts, *getattr(value, "__dict__", {}).values()])


def _of_items(items: Sequence[Any], seen: set[int]) -> int:
    sample = items if len(items) <= 2 * _SAMPLED else [*items[:_SAMPLED], *items[-_SAMPLED:]]
    measured = sum(_bytes_of(item, seen) + 8 for item in sample)
    return 64 + (measured if len(sample) == len(items) else measured * len(items) // len(sample))
