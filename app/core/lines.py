"""Long answers as they come, for a reader that asks for it: a JSON view a line (NDJSON, `application/x-ndjson`) or an
event each (server-sent events, `text/event-stream`)."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.core import offloop
from app.core.errors import failure_of
from app.core.view import ErrorBody, ErrorView

NDJSON = "application/x-ndjson"


EVENTS = "text/event-stream"
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def wants_lines(request: Request) -> str | None:
    """How the reader wants an answer as it comes; None: it wants it whole."""
    accept = request.headers.get("accept", "")
    return next((kind for kind in (NDJSON, EVENTS) if kind in accept), None)


async def in_lines(steps: AsyncGenerator[object], kind: str) -> StreamingResponse:
    """The views that come, the last one whole. What goes wrong later is the last line (the event `error`).

    A step is taken when its line is asked for, so the work ends with the reader.
    """
    views = (view async for view in steps if isinstance(view, BaseModel))
    try:
        first = await anext(views)  # a request that is refused gets its status
    except BaseException:
        await steps.aclose()
        raise

    async def lines() -> AsyncIterator[str | bytes]:
        async with aclosing(steps):
            try:
                yield _line(kind, await offloop.draw(first.model_dump_json))
                async for view in views:
                    yield _line(kind, await offloop.draw(view.model_dump_json))
            except Exception as error:
                failure = failure_of(error)
                body = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
                yield _line(kind, ErrorView(error=body).model_dump_json(), "error")

    return _Streamed(lines(), media_type=kind, headers=UNBUFFERED)


class _Streamed(StreamingResponse):
    """Ends its work when the reader is gone, and not when the collector comes by."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]


def _line(kind: str, data: str, event: str | None = None) -> str | bytes:
    return data + "\n" if kind == NDJSON else format_sse_event(data_str=data, event=event)
