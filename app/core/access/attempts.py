"""Guesses at keys: counted before anything is worked out for them, and worked out by a small pool (`offloop.check`).

A slow hash takes 16 MiB and tens of milliseconds of a core: whoever sends many keys at once must not have all of them
hashed, and all who send keys together must not take the machine from those who are in.
"""

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address

from app.core import offloop
from app.core.access.keys import Person, digest
from app.core.access.rates import Buckets
from app.core.errors import BusyError

Work = Callable[[str], Person | None]
MOST_WAITING = 64  # guesses of all addresses together that may wait or run; the last one waits for a second or two
TOO_MANY = {"what": "failed logins", "code": "login_limit"}


class Attempts:
    """The guesses of one event loop."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        """per_minute: wrong ones that one address may make."""
        self._failures = Buckets(per_minute, clock)
        self._under_way: dict[tuple[str, str], asyncio.Task[Person | None]] = {}

    def look(self, peer: str) -> None:
        """BusyError while this address may not guess."""
        self._failures.take(_network(peer), 0.0, **TOO_MANY)

    async def one(self, key: str, peer: str, work: Work) -> Person | None:
        """``work(key)`` on the pool; its None counts as a failure of this address. Equal guesses at once are one.

        BusyError before any work where the address has failed too often lately (guesses under way count as failed
        until they turn out right), or where too many guesses wait.
        """
        name = (_network(peer), digest(key))
        task = self._under_way.get(name)
        if task is None:
            if len(self._under_way) >= MOST_WAITING:
                raise BusyError("Too many people log in at this moment.", code="login_busy", retry_after=2)
            self._failures.take(name[0], 1.0, **TOO_MANY)
            task = self._under_way[name] = asyncio.ensure_future(self._judged(key, name[0], work))
            task.add_done_callback(lambda done: self._done(name, done))
        return await asyncio.shield(task)

    def _done(self, name: tuple[str, str], task: asyncio.Task[Person | None]) -> None:
        self._under_way.pop(name)
        _ = task.cancelled() or task.exception()  # also where nobody waits for it any more

    async def _judged(self, key: str, network: str, work: Work) -> Person | None:
        found: Person | None = None
        judged = False
        try:
            found = await offloop.check(work, key)
            judged = True
        finally:
            if found is not None or not judged:
                self._failures.give_back(network, 1.0)
        return found


def _network(peer: str) -> str:
    """Whose guesses are counted together: an address, with IPv6 the network of 64 bits that one site has."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    return str(address) if address.version == 4 else f"{int(address) >> 64:x}::/64"
