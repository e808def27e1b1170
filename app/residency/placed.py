"""Where a model lies: what `ModelHost` asks of a replica, whether it is in this process or elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from analysis.reference import ReferenceMeans

T = TypeVar("T")


class ModelFacts(Protocol):
    """What the web process itself knows of a model; everything else is asked of the device."""

    @property
    def key(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...


class Placed(Protocol):
    """A replica of a model. `call` and `iterate` run on its device's thread (here) only."""

    @property
    def model(self) -> Any: ...  # ModelFacts, and the shape
    @property
    def unigram(self) -> object | None: ...
    @property
    def memo_hits(self) -> int: ...

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(resident, *args)` beside the model."""

    def iterate(self, make: Callable[..., Iterator[T]]) -> Iterator[T]:
        """`make(resident)`, an item at a time."""

    def take_means(self, means: ReferenceMeans) -> None:
        """Means that were computed on another replica."""
