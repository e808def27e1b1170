"""A model in memory with everything that belongs to it: what a function on the device thread receives."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects import Engine, warm_up
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.reference import ReferenceMeans
from analysis.types import NotReadyError
from app.residency.memory import Memory, forward_bytes, metrics_bytes
from app.settings import Limits, Settings

log = logging.getLogger(__name__)

T = TypeVar("T")


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
    """One replica of a model. Used on its device's thread only; holds nothing of any user."""

    model: Model
    unigram: Unigram | None
    means_status: MeansStatus
    settings: Settings
    memory: Memory
    revision: str | None = None
    memo_hits: int = 0
    _memo: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.model.key

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """As a replica elsewhere does it; see `app.residency.placed`."""
        return function(self, *args)

    def iterate(self, make: Callable[..., Iterator[T]]) -> Iterator[T]:
        return make(self)

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
        if self.means_status.value is None:
            return None
        return self.memo("means", lambda: self._present_means().to(self.model.device))

    def require_means(self) -> Float[Tensor, "n_layers d_mlp"]:
        """Reference means, or NotReadyError saying how far they are."""
        if (means := self.means) is not None:
            return means
        status = self.means_status
        how_far = {
            "computing": f"they are being computed ({status.done} of {status.total} rows)",
            "waiting": "they are waiting to be computed",
            "failed": f"they could not be computed: {status.error}",
            "none": "there is no text to compute them over",
        }
        raise NotReadyError(
            f"{self.key} has no reference means yet: {how_far.get(status.state, status.state)}.",
            code="baseline_not_ready",
            hint="Choose the baseline 'zero' or 'prompt_mean'"
            + (" or name a text: NULLSCOPE_REFERENCE_TEXT." if status.state in ("none", "failed") else ", or wait."),
        )

    @property
    def last_means(self) -> Float[Tensor, " d_mlp"] | None:
        """The last layer's row of `means`."""
        return None if self.means is None else self.means[-1]

    @property
    def engine(self) -> Engine:
        """What every effect of this model needs, made once; built when the model is loaded."""
        return self.memo("engine", self._build_engine)

    def _build_engine(self) -> Engine:
        settings = self.settings
        budget = min(settings.effects_bytes, max(self.memory.free() // 2, 1 << 20))
        engine = Engine.build(
            self.model.readout, unigram=self.unigram, memory_bytes=budget, backend=settings.effects_backend
        )
        on_cpu = self.model.device.type == "cpu"
        if on_cpu and settings.effects_backend == "auto" and engine.backend.name == "eager":
            log.warning("no C++ compiler was found: effects take the slower eager kernels; install g++ for faster ones")
        warm_up(engine)  # a compiling backend starts now, in the background, not with the first request
        return engine

    def memo(self, name: str, build: Callable[[], T]) -> T:
        """Something that follows from the weights alone, built once per replica: a spectrum, a neuron table."""
        if name in self._memo:
            self.memo_hits += 1
        else:
            self._memo[name] = build()
        found: T = self._memo[name]
        return found

    def admit(self, n_tokens: int, *, rows: int = 1, extra: int = 0) -> None:
        """Refuse a request whose forward passes and metrics (and `extra` bytes) cannot fit; both numbers are named."""
        n_bytes = forward_bytes(self.model, n_tokens, rows=rows) + metrics_bytes(self.model, n_tokens) + extra
        self.memory.admit(n_bytes, "The request")

    def _present_means(self) -> Tensor:
        assert self.means_status.value is not None
        means = self.means_status.value.means
        return means.to(torch.float32)
