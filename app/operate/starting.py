"""Answers from the first moment: a page that waits, while the program itself is imported and its database opened.

torch, plotly and the database's tools take seconds to import. Until they are there every page is
`templates/starting.html`, which asks again by itself, the API says 503 `starting`, and /healthz that the process lives.
"""

import asyncio
import base64
import hashlib
import html
import json
import re
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from analysis.shipped import shipped

Scope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]

SENTENCE = "Nullscope is starting: it imports torch and opens its database."
AGAIN = 1  # seconds until a page or a client asks again


class Starting:
    """An ASGI app that hands everything to the one that `build` makes, as soon as that is there.

    build: makes the FastAPI app; runs on a thread. stop: called where it fails, or where the app cannot start;
    `failure` then holds the exception.
    """

    def __init__(self, build: Callable[[], Any], stop: Callable[[], None], root_path: str = "") -> None:
        self.failure: Exception | None = None
        self._build = build
        self._stop = stop
        self._root = root_path.rstrip("/")
        self._app: Any = None
        self._page = (
            (shipped("templates") / "starting.html").read_text().replace("{{ sentence }}", html.escape(SENTENCE))
        )
        style = re.search(r"<style>(.*?)</style>", self._page, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        self._policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """As ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._wait(scope, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        async with AsyncExitStack() as running:
            starting = asyncio.ensure_future(self._start(running))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            if self._app is None:
                starting.cancel()  # nobody waits for what a thread still imports
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, running: AsyncExitStack) -> None:
        try:
            app = await self._built()
            await running.enter_async_context(app.router.lifespan_context(app))
            self._app = app
        except Exception as error:
            self.failure = error
            self._stop()

    def _built(self) -> asyncio.Future[Any]:
        """What `build` makes, on a thread that does not hold the process when it ends."""
        loop = asyncio.get_running_loop()
        built: asyncio.Future[Any] = loop.create_future()

        def tell(app: Any, error: Exception | None) -> None:
            if built.done():
                return
            if error is None:
                built.set_result(app)
            else:
                built.set_exception(error)

        def work() -> None:
            app, failure = None, None
            try:
                app = self._build()
            except Exception as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, app, failure)

        threading.Thread(target=work, name="starting", daemon=True).start()
        return built

    async def _wait(self, scope: Scope, send: Any) -> None:
        path = scope["path"].removeprefix(self._root)
        headers: Headers = [(b"cache-control", b"no-store"), (b"connection", b"close")]
        status, kind, body = 503, b"application/json", ""
        if path == "/healthz":
            status, body = 200, json.dumps({"status": "ok"})
        elif path.startswith("/api/") or path in ("/readyz", "/metrics"):
            error = {"code": "starting", "message": SENTENCE, "hint": "Ask again in a moment."}
            body = json.dumps({"error": error})
        else:
            kind, body = b"text/html; charset=utf-8", self._page
            headers.append((b"content-security-policy", self._policy.encode()))
        headers.append((b"content-type", kind))
        headers.append((b"x-content-type-options", b"nosniff"))
        if status == 503:
            headers.append((b"retry-after", str(AGAIN).encode()))
            if scope["method"] in ("GET", "HEAD") and path not in ("/readyz", "/metrics"):
                headers.append((b"refresh", str(AGAIN).encode()))
        content = body.encode()
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
