"""A model in memory with everything that belongs to it: what a function on the device thread receives."""

import hashlib
import logging
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from analysis import nullspace
from analysis.effects import Engine, warm_up
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.nullspace import Spectrum
from analysis.passes import PassBegunError
from analysis.progress import Steps
from analysis.reference import ReferenceMeans
from analysis.types import NotReadyError, NullscopeError
from app.core.residency.cache import Cache, Key, Kind
from app.core.residency.memory import Memory, forward_bytes, metrics_bytes
from app.core.settings import Limits, Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

SPECTRUM = Kind("spectrum", "analysis.nullspace")


@dataclass
class MeansStatus:
    """The reference means of a model, wherever it is resident. Written by the background thread only."""

    state: Literal["none", "waiting", "computing", "ready", "failed"] = "none"
    done: int = 0
    total: int = 0
    value: ReferenceMeans | None = None
    error: str | None = None

    @property
    def progress(self) -> float | None:
        return self.done / self.total if self.state == "computing" and self.total else None


@dataclass
class Resident:
    """One replica of a model. Used on its device's thread only; holds nothing of any user. `close` it at its end.

    cache: the process's. ready: the engine, where it is made already.
    """

    model: Model
    unigram: Unigram | None
    means_status: MeansStatus
    settings: Settings
    memory: Memory
    revision: str | None
    cache: Cache
    ready: Engine | None = None
    _means: tuple[ReferenceMeans, Tensor] | None = field(default=None, init=False)
    _work: int = field(default=0, init=False)  # begun so far beside forward passes

    def __post_init__(self) -> None:
        self.cache.open(self.model.identity)

    def close(self) -> None:
        """It is unloaded: what was kept of it goes, and nothing more is kept."""
        self.cache.close(self.model.identity)

    @property
    def key(self) -> str:
        return self.model.key

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """As a replica elsewhere does it; see `app.core.residency.replica`."""
        with torch.inference_mode(), self._told():
            return function(self, *args)

    def iterate(self, make: Callable[..., Iterator[T]]) -> Iterator[T]:
        with self._told():
            return self._steps(make(self))

    def _steps(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; an error of the first step says whether anything was computed before it."""
        began = False
        try:
            while True:
                with self._told(began):
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                began = True
                yield item
        finally:
            if isinstance(items, Generator):
                items.close()

    @contextmanager
    def _told(self, began: bool = False) -> Iterator[None]:
        """An error out of this block says whether anything was computed before it."""
        before = self.model.passes + self._work
        try:
            yield
        except NullscopeError as error:
            error.computed = began or self.model.passes + self._work > before
            raise

    def computes(self) -> None:
        """Long work that is no forward pass begins: who is refused after this has had something computed."""
        self._work += 1

    def refuse_early(self, items: Iterator[object]) -> None:
        """An answer in steps, begun and dropped where its first forward pass would be: raises what is refused by then,
        for nothing was computed yet."""
        try:
            with self.model.held_back():
                for item in items:
                    if isinstance(item, BaseModel):
                        return
        except PassBegunError:
            return
        finally:
            if isinstance(items, Generator):
                items.close()

    def take_means(self, means: ReferenceMeans) -> None:
        """Every replica of this process reads the same status already."""

    @property
    def limits(self) -> Limits:
        return self.settings

    @property
    def max_tokens(self) -> int:
        return min(self.limits.max_tokens, self.model.n_ctx)

    @property
    def means(self) -> Float[Tensor, "n_layers d_mlp"] | None:
        """Reference means on the model's device; None while there are none."""
        found = self.means_status.value
        if found is None:
            return None
        if self._means is None or self._means[0] is not found:
            self._means = found, found.means.to(self.model.device, torch.float32)
        return self._means[1]

    def require_means(self) -> Float[Tensor, "n_layers d_mlp"]:
        """Reference means, or NotReadyError saying how far they are."""
        if (means := self.means) is not None:
            return means
        status = self.means_status
        how_far = {
            "computing": f"they are being computed ({status.done} of {status.total} rows)",
            "waiting": "they are waiting to be computed",
            "failed": f"they could not be computed: {str(status.error).removesuffix('.')}",
            "none": "there is no text to compute them over",
        }
        raise NotReadyError(
            f"{self.key} has no reference means yet: {how_far.get(status.state, status.state)}.",
            code="baseline_not_ready",
            hint="Choose the baseline 'zero' or 'prompt_mean'"
            + (
                " or name a text that its tokenizer reads: on the page Models, or with "
                f"nullscope serve --reference {self.key}=FILE."
                if status.state in ("none", "failed")
                else ", or wait."
            ),
        )

    @property
    def last_means(self) -> Float[Tensor, " d_mlp"] | None:
        """The last layer's row of `means`."""
        return None if self.means is None else self.means[-1]

    @property
    def engine(self) -> Engine:
        """What every effect of this model needs, made once; built when the model is loaded."""
        if self.ready is None:
            self.ready = self._build_engine()
        return self.ready

    def _build_engine(self) -> Engine:
        settings = self.settings
        free = self.memory.free()
        wished = settings.effects_bytes or min(max(free // 4, 2 << 30), 8 << 30)
        budget = min(wished, max(free // 2, 1 << 20))
        engine = Engine.build(
            self.model.readout, unigram=self.unigram, memory_bytes=budget, backend=settings.effects_backend
        )
        on_cpu = self.model.device.type == "cpu"
        if on_cpu and settings.effects_backend == "auto" and engine.backend.name == "eager":
            log.warning("no C++ compiler was found: effects take the slower eager kernels; install g++ for faster ones")
        warm_up(engine)  # a compiling backend starts now, in the background, not with the first request
        return engine

    def key_of(self, kind: Kind, *inputs: Hashable) -> Key:
        """The key of something that follows from this model and the inputs, and belongs to this replica."""
        return Key(self.model.identity, kind, f"{self.key} on {self.model.device}", inputs)

    def cached(self, kind: Kind, inputs: tuple[Hashable, ...], build: Callable[[], T]) -> T:
        """What follows from this model and the inputs: a spectrum, a text as tokens. Built once, if there is room."""
        return self.cache.cached(self.key_of(kind, *inputs), build)

    def spectrum_in_steps(self) -> Steps[Spectrum]:
        """Of ``W_U``; a block of tokens a step where it is not kept yet, so that other requests go in between."""
        key = self.key_of(SPECTRUM)
        if (found := self.cache.get(key)) is None:
            self.memory.admit(nullspace.working_bytes(self.model.d_model), "The spectrum of W_U")
            found = yield from nullspace.steps(self.model.readout)
            self.cache.put(key, found)
        spectrum: Spectrum = found
        return spectrum

    @property
    def means_sha256(self) -> str | None:
        """Of the reference means that there are now."""
        means = self.means
        return None if means is None else hashlib.sha256(means.cpu().numpy().tobytes()).hexdigest()

    @property
    def counts_sha256(self) -> str | None:
        """Of the token counts that it was loaded with."""
        return self.unigram.sha256 if self.unigram else None

    def admit(self, n_tokens: int, *, rows: int = 1, extra: int = 0) -> None:
        """Refuse a request whose forward passes and metrics (and `extra` bytes) cannot fit; both numbers are named."""
        n_bytes = forward_bytes(self.model, n_tokens, rows=rows) + metrics_bytes(self.model, n_tokens) + extra
        self.memory.admit(n_bytes, "The request")
