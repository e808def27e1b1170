"""A bounded queue that is fair: interactive before batch, and within a lane one item a person in turn."""

import threading
from collections import OrderedDict, deque
from typing import Generic, Literal, TypeVar

Lane = Literal["interactive", "batch"]
T = TypeVar("T")


class FullError(Exception):
    """No room; `waiting` items stand in the queue (of the whole device, or of this person)."""

    def __init__(self, waiting: int, *, of_person: bool) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.of_person = of_person


class FairQueue(Generic[T]):
    """Many producers, one consumer. The first in each person's line goes in round robin over the people.

    The bounds hold for the interactive lane; batch work is bounded by its producers, each of which waits for its
    last slice before it puts the next.
    """

    def __init__(self, *, size: int, per_person: int) -> None:
        self.size = size
        self.per_person = per_person
        self._lanes: dict[Lane, OrderedDict[str, deque[T]]] = {"interactive": OrderedDict(), "batch": OrderedDict()}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T, *, who: str, lane: Lane = "interactive") -> None:
        """FullError when there is no room, RuntimeError after close."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the queue is closed")
            lines = self._lanes[lane]
            line = lines.get(who, deque())
            if lane == "interactive":
                if (waiting := self._length(lane)) >= self.size:
                    raise FullError(waiting, of_person=False)
                if len(line) >= self.per_person:
                    raise FullError(len(line), of_person=True)
            line.append(item)
            lines.setdefault(who, line)
            self._changed.notify()

    def take(self) -> T | None:
        """The next item; waits for one. None once the queue is closed."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                for lines in self._lanes.values():  # interactive first
                    if lines:
                        return self._next(lines)
                self._changed.wait()

    @staticmethod
    def _next(lines: OrderedDict[str, deque[T]]) -> T:
        who, line = lines.popitem(last=False)
        item = line.popleft()
        if line:
            lines[who] = line  # at the end: everybody else comes first
        return item

    def discard(self, item: T) -> bool:
        """Take an item out before its turn; False when it is not there (any more)."""
        with self._changed:
            for lines in self._lanes.values():
                for who, line in lines.items():
                    if item in line:
                        line.remove(item)
                        if not line:
                            del lines[who]
                        return True
        return False

    def ahead(self, item: T) -> int | None:
        """How many items of its lane go before this one as things stand; None when it does not wait here."""
        with self._changed:
            for lines in self._lanes.values():
                for turn, (who, line) in enumerate(lines.items()):
                    if item in line:
                        rounds = line.index(item)
                        others = (
                            min(len(other), rounds + (place < turn))
                            for place, (name, other) in enumerate(lines.items())
                            if name != who
                        )
                        return rounds + sum(others)
        return None

    def waiting(self) -> list[T]:
        """Every item in the order in which it would be taken if nothing else came."""
        found: list[T] = []
        with self._changed:
            for lines in self._lanes.values():
                lines = OrderedDict((who, deque(line)) for who, line in lines.items())
                while lines:
                    found.append(self._next(lines))
        return found

    def close(self) -> list[T]:
        """Nothing goes in any more; what was still waiting is returned."""
        with self._changed:
            self._closed = True
            left = [item for lines in self._lanes.values() for line in lines.values() for item in line]
            for lines in self._lanes.values():
                lines.clear()
            self._changed.notify_all()
        return left

    def _length(self, lane: Lane) -> int:
        return sum(map(len, self._lanes[lane].values()))

    def __len__(self) -> int:
        with self._changed:
            return sum(self._length(lane) for lane in self._lanes)
