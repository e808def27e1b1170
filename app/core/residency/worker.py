"""One thread per device. It owns the models on that device: nothing else ever runs or changes them.

Why a thread of our own: hooks are global to a model and grad mode is per thread, so exactly one thread may use a model,
and it does so under `torch.inference_mode`. The event loop only waits.
"""

import ctypes
import gc
import logging
import os
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from analysis import interrupt
from analysis.types import NullscopeError
from app.core.errors import BusyError, UnavailableError
from app.core.residency.queue import FairQueue, FullError, Lane

log = logging.getLogger(__name__)

POISONED_EXIT_CODE = 75  # for the supervisor: the CUDA context is lost, only a new process helps


@dataclass(eq=False)
class Ticket:
    """One piece of work on its way through a device."""

    work: Callable[[], Any]
    who: str
    lane: Lane
    kind: str
    future: Future[Any] = field(default_factory=Future)
    given_up: threading.Event = field(default_factory=threading.Event)
    submitted: float = field(default_factory=time.monotonic)

    def give_up(self) -> None:
        """Nobody waits for it any more: out of the queue, or, if it runs, ended at its next `interrupt.check`."""
        if not self.future.cancel():
            self.given_up.set()


BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, float("inf"))  # seconds


@dataclass
class Times:
    """How long something took, as a histogram: counts[i] of at most BUCKETS[i] seconds and more than the one before."""

    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(BUCKETS, seconds)] += 1


@dataclass
class Stats:
    """What the worker has done, by kind of work; read by /metrics."""

    finished: Counter[tuple[str, str]] = field(default_factory=Counter)
    ran: defaultdict[str, Times] = field(default_factory=lambda: defaultdict(Times))
    waited: defaultdict[str, Times] = field(default_factory=lambda: defaultdict(Times))
    out_of_memory: int = 0
    refused: int = 0

    def count(self, ticket: Ticket, outcome: str, waited: float, ran: float) -> None:
        self.finished[ticket.kind, outcome] += 1
        self.ran[ticket.kind].add(ran)
        self.waited[ticket.kind].add(waited)


class Worker:
    """The thread of one device with its bounded fair queue."""

    def __init__(
        self, device: str, *, queue_size: int, per_person: int, on_poison: Callable[[int], None] = os._exit
    ) -> None:
        self.device = device
        self.stats = Stats()
        self.running: Ticket | None = None
        self._queue: FairQueue[Ticket] = FairQueue(size=queue_size, per_person=per_person)
        self._on_poison = on_poison
        self._mean_seconds = 0.1  # of one ticket, a moving average; what Retry-After is estimated from
        self._thread = threading.Thread(target=self._loop, name=f"device-{device}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What is running ends at its next check, or is finished; the rest is refused."""
        if (running := self.running) is not None:
            running.given_up.set()
        for ticket in self._queue.close():
            if ticket.future.set_running_or_notify_cancel():
                ticket.future.set_exception(UnavailableError("The server is shutting down.", code="shutting_down"))
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def depth(self) -> int:
        """Tickets waiting or running."""
        return len(self._queue) + (self.running is not None)

    def submit(self, work: Callable[[], Any], *, who: str, kind: str, lane: Lane = "interactive") -> Ticket:
        """Queue a piece of work; BusyError when there is no room. Cancelling its future takes it out of the queue."""
        ticket = Ticket(work, who, lane, kind)
        try:
            self._queue.put(ticket, who=who, lane=lane)
        except FullError as full:
            self.stats.refused += 1
            whose = "of yours are" if full.of_person else "are"
            raise BusyError(
                f"The queue is full: {full.waiting} requests {whose} waiting.",
                retry_after=full.waiting * self._mean_seconds,
                code="queue_full",
                hint="Try again after the number of seconds in Retry-After.",
            ) from None
        except RuntimeError:
            raise UnavailableError("The server is shutting down.", code="shutting_down") from None
        ticket.future.add_done_callback(lambda future: future.cancelled() and self._queue.discard(ticket))
        return ticket

    def ahead(self, ticket: Ticket) -> int | None:
        """How many tickets go before this one; None when it no longer waits."""
        return self._queue.ahead(ticket)

    def tickets(self) -> list[Ticket]:
        """What runs and what waits, first turn first."""
        running = self.running
        return [running, *self._queue.waiting()] if running else self._queue.waiting()

    def _loop(self) -> None:
        while (ticket := self._queue.take()) is not None:
            if ticket.future.set_running_or_notify_cancel():
                self.running = ticket
                self._execute(ticket)
                self.running = None
            del ticket  # the next one may be long in coming: nothing of this one stays in memory

    def _execute(self, ticket: Ticket) -> None:
        started = time.monotonic()
        result, error = None, None
        try:
            with torch.inference_mode(), interrupt.until(ticket.given_up.is_set):
                result = ticket.work()
        except BaseException as exc:  # whatever it is, it belongs to the one who asked, and the thread lives on
            error = self._translate(exc)
        ran = time.monotonic() - started
        self._mean_seconds += 0.1 * (ran - self._mean_seconds)
        outcome = "ok" if error is None else getattr(error, "code", "error")
        self.stats.count(ticket, outcome, started - ticket.submitted, ran)
        self.running = None
        if error is None:
            ticket.future.set_result(result)
        else:
            ticket.future.set_exception(error)

    def _translate(self, exc: BaseException) -> BaseException:
        if isinstance(exc, NullscopeError):
            return exc
        if is_poisoned(exc):
            log.critical("device %s is lost: %s", self.device, exc)
            self._on_poison(POISONED_EXIT_CODE)
        if not is_out_of_memory(exc):
            return exc
        self.stats.out_of_memory += 1
        log.warning("out of memory on %s: %s", self.device, exc)
        exc.__traceback__ = exc.__context__ = None  # the frames hold the tensors that filled the memory
        free_memory()
        return UnavailableError(
            f"The device {self.device} ran out of memory.",
            code="out_of_memory",
            retry_after=max(1.0, self.depth * self._mean_seconds),
            hint="Send a shorter prompt or name fewer neurons, or try again when the device is less busy.",
        )


def free_memory() -> None:
    """Give what is no longer used back: cached blocks to the device's allocator, freed pages to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """glibc keeps freed pages for later, gigabytes after a sweep; a C library without `malloc_trim` does not."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(exc: BaseException) -> bool:
    """Any allocator's way of saying so (torch has a class for CUDA's only)."""
    if isinstance(exc, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


def is_poisoned(exc: BaseException) -> bool:
    """A CUDA error other than out-of-memory: every later call in this process fails too."""
    return isinstance(exc, RuntimeError) and "CUDA error:" in str(exc) and not is_out_of_memory(exc)
