"""Long answers as they come: a JSON view a line (NDJSON), for a reader that asks for `application/x-ndjson`."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from app.deps import Caller
from app.errors import failure_of
from app.views.core import ErrorBody, ErrorView

NDJSON = "application/x-ndjson"


def wants_lines(request: Request) -> bool:
    return NDJSON in request.headers.get("accept", "")


async def in_lines(
    caller: Caller, key: str, answer: Callable[..., Iterator[BaseModel | None]], body: BaseModel
) -> StreamingResponse:
    """The views of `answer(resident, request=body)`, the last one whole. What goes wrong later is the last line.

    A step is taken when its line is asked for, so the work ends with the reader.
    """
    steps = caller.host.steps(key, partial(answer, request=body), who=caller.person, kind=answer.__name__)
    views = (view async for view in steps if view is not None)
    first = await anext(views)  # a request that is refused gets its status

    async def lines() -> AsyncIterator[str]:
        async with aclosing(steps):
            try:
                yield first.model_dump_json() + "\n"
                async for view in views:
                    yield view.model_dump_json() + "\n"
            except Exception as error:
                failure = failure_of(error)
                body = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
                yield ErrorView(error=body).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type=NDJSON)
