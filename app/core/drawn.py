"""Answers whose bodies are written off the event loop: a page with its charts, a long JSON, a table."""

from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core import offloop


class Drawn(Response):
    """`make()` gives the body when the answer is sent. What it raises is answered as if the handler had raised it."""

    def __init__(
        self,
        make: Callable[[], str | bytes],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(None, status, headers, media_type)
        self.make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body = self.render(await offloop.draw(self.make))
        self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)
