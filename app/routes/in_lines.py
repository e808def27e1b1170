"""Long answers as they come: a JSON view a line (NDJSON), for a reader that asks for `application/x-ndjson`."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

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
    make, kind = partial(answer, request=body), answer.__name__
    views = (view for view in caller.host.slices(key, make, who=caller.person, kind=kind) if view is not None)
    first = await asyncio.to_thread(next, views)  # a request that is refused gets its status

    def lines() -> Iterator[str]:
        try:
            for view in chain([first], views):
                yield view.model_dump_json() + "\n"
        except Exception as error:
            failure = failure_of(error)
            body = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
            yield ErrorView(error=body).model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type=NDJSON)
