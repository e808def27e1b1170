"""How every route answers: a view becomes JSON off the event loop."""

import inspect
import warnings
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Any

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.warnings import UnsupportedFieldAttributeWarning

from app.core.drawn import Drawn

# FastAPI names each field of a request by an alias, and hides what pydantic has to say of that. Models whose schema is
# built when it is first needed (`defer_build`) say it then, in the log of a server that is asked for the first time.
warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)


class Handler:
    """A route's own handler, with its view as an answer.

    FastAPI would write the view on the loop; it would also look up the source file of a function there.
    """

    def __init__(self, handler: Callable[..., Awaitable[Any]], status: int) -> None:
        assert inspect.iscoroutinefunction(handler), f"{handler} must be a coroutine; what blocks belongs to offloop"
        self.handler = handler
        self.status = status
        parameters = inspect.signature(handler).parameters.values()
        # One that is given the response, to set its status or headers, has a small view, which FastAPI writes.
        self.sets_response = any(parameter.annotation is Response for parameter in parameters)
        update_wrapper(self, handler)

    async def __call__(self, **values: Any) -> Any:
        found = await self.handler(**values)
        if isinstance(found, BaseModel) and not self.sets_response:
            return Drawn(found.model_dump_json, self.status, media_type="application/json")
        return found


class OffLoop(APIRoute):
    """A route with such a handler."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not isinstance(endpoint, Handler):
            endpoint = Handler(endpoint, options.get("status_code") or 200)
        super().__init__(path, endpoint, **options)


def router(**options: Any) -> APIRouter:
    """The router of a family; options as FastAPI's."""
    return APIRouter(route_class=OffLoop, **options)
