"""How much at once: a bucket of cost a person, and a bound on failed logins an address.

Time is `time.monotonic`, so a clock that is set back neither locks anybody out nor lets anybody in.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from app.core.errors import BusyError

PEOPLE = 10_000  # remembered at once; the one longest unseen is forgotten first


class Buckets:
    """A token bucket a name: `per_minute` flows in, at most one minute's worth is saved up."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> (amount, when)
        self._lock = threading.Lock()

    def take(self, name: str, cost: float, *, what: str = "requests", code: str = "rate_limit") -> None:
        """BusyError with the seconds to wait when there is not enough left. Cost 0 only looks whether 1 is left."""
        with self._lock:
            now = self._clock()
            amount, seen = self._left.pop(name, (self.per_minute, now))
            amount = min(self.per_minute, amount + (now - seen) * self.per_minute / 60)
            enough = amount >= min(cost or 1.0, self.per_minute)  # the dearest request waits for a full bucket
            self._left[name] = (max(0.0, amount - cost) if enough else amount, now)
            while len(self._left) > PEOPLE:
                self._left.popitem(last=False)
        if not enough:
            wait = (min(max(cost, 1.0), self.per_minute) - amount) * 60 / self.per_minute
            raise BusyError(
                f"Too many {what} in a short time.",
                code=code,
                retry_after=wait,
                hint="Try again after the number of seconds in Retry-After.",
            )

    def give_back(self, name: str, cost: float) -> None:
        """What was taken for something that turned out to cost nothing."""
        with self._lock:
            if name in self._left:
                amount, seen = self._left[name]
                self._left[name] = (min(self.per_minute, amount + cost), seen)
