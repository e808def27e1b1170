"""Where work that can block runs, so that the event loop never does it: a few threads a kind, and no kind waits for
another's threads.

    rows = await offloop.read(jobs.every)          # database and files
    await offloop.write(jobs.cancel, job_id)       # may wait for the database's lock

A lock that another process holds on the database stops what writes, and nothing that reads; a slow disk stops neither
log-ins nor pages that are drawn. `tests/app/test_event_loop.py` holds every route to it.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """A bounded number of threads for one kind of work; what comes beyond it waits in line."""

    def __init__(self, name: str, threads: int) -> None:
        self.size = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def __call__(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """`function(*args, **options)` on a thread; raises what it raises. A cancelled caller's turn never comes."""
        work = partial(contextvars.copy_context().run, function, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


read = Pool("read", 8)
write = Pool("write", 16)  # each may wait for the database's lock
keep = Pool("keep", 2)  # answers under their permalinks, which nobody waits for
admit = Pool("admit", 4)  # who somebody is, by the file of keys: nobody is kept out by a database that hangs
check = Pool("check", 2)  # keys: a hash takes 16 MiB and some 40 ms
take = Pool("take", 1)  # exports that are read to be taken in: seconds each, one after another
draw = Pool("draw", 2)  # pages and charts: more threads would only take turns
