"""The connections of a server: how many at once, how long one may be silent, how it is closed.

A socket that says nothing costs a file of the process and nothing else; enough of them and nobody gets in. So their
number is bounded below the process' own bound on files, those that say nothing make room for new ones, and a request's
head must arrive in time. (Its body's pace is `app.core.bodies`' business.)
"""

import asyncio
import contextlib
import json
import logging
import resource
from collections.abc import Callable
from typing import Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0  # for which a closed connection is read, so that its answer is not lost with what was unread
LINGER_BYTES = 16 << 20
LINGERING = 32  # refused connections that are closed so; those beyond are cut off
SEND_SECONDS = 60.0  # for which an answer may stand still that nobody reads
FILES = 128  # of the process itself: database, models, logs
MOST_FILES = 1 << 16
BACKLOG = 128


def room(wanted: int) -> tuple[int, int]:
    """(connections at once, connections accepted in one go) that the process' bound on files allows.

    The bound is raised to what the system permits first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    else:
        most = MOST_FILES if soft == resource.RLIM_INFINITY else soft
    connections = max(8, min(wanted, (most - FILES - LINGERING) // 2))
    if connections < wanted:
        log.warning("%d connections at once instead of %d: this process may open %d files", connections, wanted, most)
    return connections, min(BACKLOG, connections)


class Connection(H11Protocol):
    """One of them. `bounded` makes the class that a server uses."""

    most: ClassVar[int] = 512
    seconds: ClassVar[float] = 20.0

    quiet_since = 0.0  # when its last request ended, or it began

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._head, self._stalled = _Timer(self.loop), _Timer(self.loop)
        self.closing = _Closing(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self.closing))
        self.quiet_since = self.loop.time()
        if len(self.connections) > self.most and not self._find_room():
            log.warning("all of %d connections are busy; a new one is answered 503", self.most)
            self._refuse(503, "busy", "This server has no connection left.", "Retry-After: 2\r\n")
            return
        self._head.start(self.seconds, self._too_slow)

    @property
    def is_quiet(self) -> bool:
        """Whether it waits for a request."""
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def _find_room(self) -> bool:
        """Cut off one that is closing, or else the one that has been quiet for longest; False when all are busy."""
        every = cast("set[Connection]", self.connections)
        others = [other for other in every if other is not self and not other.closing.is_gone]
        if len(others) < self.most:
            return True
        quiet = [other for other in others if other.closing.lingers] or [other for other in others if other.is_quiet]
        if not quiet:
            return False
        min(quiet, key=lambda other: (other.cycle is not None, other.quiet_since)).closing.abort()
        return True

    def data_received(self, data: bytes) -> None:
        if self.closing.lingers:
            self.closing.discard(len(data))
            return
        super().data_received(data)
        if not self.is_quiet or self.closing.is_closing():
            self._head.stop()
        elif not self._head.runs:
            self._head.start(self.seconds, self._too_slow)

    def eof_received(self) -> None:
        if self.closing.lingers:
            self.closing.abort()

    def on_response_complete(self) -> None:
        self.quiet_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled.start(SEND_SECONDS, self.closing.abort)

    def resume_writing(self) -> None:
        self._stalled.stop()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._stalled, self.closing.timer):
            timer.stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self.closing.lingers or self.is_quiet:
            self.closing.abort()
        else:
            super().shutdown()

    def _too_slow(self) -> None:
        """The head is not there in time: said to one that has begun it, and the end of one that is silent."""
        if self.conn.trailing_data[0]:
            self._refuse(408, "too_slow", "The request's head came too slowly.")
        else:
            self.closing.abort()

    def _refuse(self, status: int, code: str, message: str, header: str = "") -> None:
        """An answer without a request, in the shape of every error."""
        if len(self.connections) > self.most + LINGERING:
            self.closing.abort()
            return
        body = json.dumps({"error": {"code": code, "message": message, "hint": "Try again."}})
        reason = {408: "Request Timeout", 503: "Service Unavailable"}[status]
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.closing.write(f"{head}Connection: close\r\n{header}\r\n{body}".encode("ascii"))
        self.closing.close()


class _Timer:
    """Calls something once, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        return self._handle is not None

    def start(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        self.stop()
        self._handle = self._loop.call_later(seconds, self._done, call, *args)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _done(self, call: Callable[..., None], *args: Any) -> None:
        self._handle = None
        call(*args)


class _Closing:
    """A transport that is closed gently: what the other side has sent and nobody reads does not cost it the answer."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self.timer = _Timer(loop)
        self._discarded = 0
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def is_gone(self) -> bool:
        return self._transport.is_closing()

    def is_closing(self) -> bool:
        return self.lingers or self.is_gone

    def close(self) -> None:
        """Say that nothing more comes, and read a while what still does."""
        if self.is_closing():
            return
        self.lingers = True
        try:
            self._transport.write_eof()
            self._transport.resume_reading()
        except (OSError, RuntimeError):
            self.abort()
        self._wait(self._transport.get_write_buffer_size())

    def _wait(self, unsent: int) -> None:
        """An answer that is being read is not cut off; one that stands still is."""
        self.timer.start(SEND_SECONDS if unsent else LINGER_SECONDS, self._waited, unsent)

    def _waited(self, before: int) -> None:
        unsent = self._transport.get_write_buffer_size()
        if before and unsent != before:
            self._wait(unsent)
        else:
            self.abort()

    def discard(self, n_bytes: int) -> None:
        self._discarded += n_bytes
        if self._discarded > LINGER_BYTES:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()


def bounded(connections: int, seconds: float) -> type[Connection]:
    """The class of a server's connections. seconds: for the head of a request."""
    return type("BoundedConnection", (Connection,), {"most": connections, "seconds": seconds})
