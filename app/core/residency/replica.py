"""Where a model lies: what `ModelHost` asks of a replica, whether it is in this process or elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from analysis.reference import ReferenceMeans
from analysis.types import ModelId

T = TypeVar("T")


class ModelFacts(Protocol):
    """What the web process itself knows of a model; everything else is asked of the device."""

    @property
    def key(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...
    @property
    def identity(self) -> ModelId: ...


class Replica(Protocol):
    """A replica of a model. `call` and `iterate` run on its device's thread (here) only."""

    @property
    def model(self) -> Any: ...  # ModelFacts, and the shape
    @property
    def unigram(self) -> object | None: ...
    @property
    def counts_sha256(self) -> str | None: ...

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(resident, *args)` beside the model."""

    def iterate(self, make: Callable[..., Iterator[T]]) -> Iterator[T]:
        """`make(resident)`, an item at a time."""

    def take_means(self, means: ReferenceMeans) -> None:
        """Means that were computed on another replica."""

    def close(self) -> None:
        """It is unloaded. Work that is queued already still runs; what was kept of it goes."""
