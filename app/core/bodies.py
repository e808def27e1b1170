"""The body of a request: bounded, in time, and read to its end before the answer begins.

A connection that is closed with bytes unread is reset, and the answer with it: whoever sends all of a body before they
look for an answer would never see one.
"""

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from analysis.types import InputError
from app.core.errors import TooLargeError

LENGTH = re.compile("[0-9]+")

RATE = 1000.0
"""Bytes a second that a body comes with at the least, once its grace is over."""

DRAINED = 64 << 20
"""Bytes read, and thrown away, so that an answer can be seen. Beyond it the connection is closed."""


async def sent_file(request: Request) -> bytes:
    """The file that is a request's body. A form around it would be taken for its text, boundaries and headers too."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise InputError(
            "The body is a form with a file in it, not the file.",
            code="form_not_file",
            hint="Send the file itself as the body: curl --data-binary @FILE, not -F.",
        )
    return await request.body()


class Body:
    """`receive` and `send` of one request. limit: bytes that are taken; seconds: the grace of a slow sender."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, limit: int, seconds: float) -> None:
        headers = Headers(scope=scope)
        self.length = _length(headers)
        self.limit, self.seconds = limit, seconds
        self._receive, self._send = receive, send
        self._left = self.length != 0  # whether there is more to come
        self._asks_first = headers.get("expect", "").lower() == "100-continue"
        self._seen, self._waited, self._late = 0, 0.0, False

    async def receive(self) -> Message:
        """The next part; 413 where the body grows beyond the limit, 408 where it comes too slowly."""
        if not self._left:
            return await self._receive()
        message = await self._next()
        if self._seen > self.limit:
            # FastAPI turns any other exception raised while it reads a body into a 400.
            raise HTTPException(413, too_large(self.limit, "more").message)
        return message

    async def send(self, message: Message) -> None:
        """The answer, once nothing of the body is left to be read; else the connection ends with it."""
        if message["type"] == "http.response.start" and not await self._drained():
            MutableHeaders(scope=message)["Connection"] = "close"
        await self._send(message)

    async def _next(self) -> Message:
        loop, seconds = asyncio.get_running_loop(), self.seconds + self._seen / RATE - self._waited
        began = loop.time()
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                message = await self._receive()
        except TimeoutError:
            self._late = True
            raise HTTPException(408, "The request's body came too slowly.") from None
        self._waited += loop.time() - began
        self._seen += len(message.get("body", b""))
        self._left = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def _drained(self) -> bool:
        """Read what is left, up to a bound; whether nothing is."""
        most = max(DRAINED, self.limit)
        sends_nothing = self._asks_first and not self._seen  # before it is told to go on
        if self._left and (sends_nothing or (self.length or 0) > most):
            return False
        while self._left and not self._late and self._seen <= most:
            try:
                await self._next()
            except HTTPException:
                break
        return not self._left


def _length(headers: Headers) -> int | None:
    """Bytes that were announced; None for a body of unknown length, 0 for none."""
    if "transfer-encoding" in headers:
        return None
    given = headers.get("content-length", "0")
    if not LENGTH.fullmatch(given):
        return None
    return int(given[:20])


def check_length(headers: Headers, limit: int) -> None:
    """HTTPException for a length that is none, TooLargeError for one beyond the limit."""
    given = headers.get("content-length", "0")
    if not LENGTH.fullmatch(given):
        raise HTTPException(400, "Content-Length is not a number.")
    if int(given[:20]) > limit:
        raise too_large(limit, f"{given[:20]} bytes")


def too_large(limit: int, size: str) -> TooLargeError:
    return TooLargeError(
        f"The request body has {size}; at most {limit} bytes are allowed here.",
        code="body_too_large",
        hint="Send less, or have the operator raise NULLSCOPE_MAX_BODY_BYTES (for files NULLSCOPE_MAX_UPLOAD_BYTES).",
    )
