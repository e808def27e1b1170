"""What stands in front of every request: host name, origin, body size; and the headers of every answer."""

import re
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from analysis.types import NullscopeError
from app.core.access.gate import Gate, local_path
from app.core.access.roles import SAFE_METHODS
from app.core.bodies import Body, check_length
from app.core.errors import ForbiddenError, UnauthorizedError
from app.core.settings import Settings

# Where a file is received; the last is of a model.
UPLOADS = ("/api/v1/corpora", "/sweeps/text", "/api/v1/import", "/lab/import", "/reference")
# Plotly sets style attributes, hence 'unsafe-inline' for styles; scripts come from our own files only.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware. `render` turns an exception into the answer; errors here have the same shape as everywhere."""

    def __init__(
        self, app: ASGIApp, settings: Settings, gate: Gate, render: Callable[[Request, Exception], Response]
    ) -> None:
        self.app = app
        self.settings = settings
        self.gate = gate
        self.render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if root := self.settings.root_path.rstrip("/"):
            scope["root_path"] = root
            # A proxy may take the prefix away; to ASGI the path has it (a mounted folder finds its files by that).
            if scope["path"] != root and not scope["path"].startswith(root + "/"):
                scope["path"] = root + scope["path"]
        limit = self.settings.max_body_bytes
        if scope["path"].endswith(UPLOADS):
            limit = max(limit, self.settings.max_upload_bytes)
        body = Body(scope, receive, send, limit=limit, seconds=self.settings.slow_seconds)
        receive, answer = body.receive, _with_headers(body.send)
        try:
            check_host(Headers(scope=scope), self.settings.allowed_hosts)
            check_origin(scope["method"], Headers(scope=scope))
            check_length(Headers(scope=scope), limit)
            identity = await self.gate.admit(scope)
        except (NullscopeError, HTTPException) as refusal:
            await self._refuse(scope, receive, refusal)(scope, receive, answer)
            return
        state = scope.setdefault("state", {})
        state["identity"], state["person"] = identity, identity.name
        await self.app(scope, receive, _counted(answer, self.gate, identity.role))

    def _refuse(self, scope: Scope, receive: Receive, refusal: Exception) -> Response:
        """The error; a person who opens a page without being logged in is asked to log in and comes back to it."""
        headers, path = Headers(scope=scope), local_path(scope)
        page = scope["method"] == "GET" and "text/html" in headers.get("accept", "") and not path.startswith("/api/")
        if isinstance(refusal, UnauthorizedError) and refusal.code == "login_needed" and page:
            root, query = scope.get("root_path", "").rstrip("/"), scope.get("query_string", b"").decode("latin-1")
            return RedirectResponse(f"{root}/login?next={quote(path + (f'?{query}' if query else ''))}", 303)
        return self.render(Request(scope, receive), refusal)


def check_host(headers: Headers, allowed: tuple[str, ...]) -> None:
    """A page of another site that points its own name at this address must not reach us (DNS rebinding)."""
    if not allowed:
        return
    host = host_name(headers.get("host", ""))
    if host not in allowed:
        raise ForbiddenError(
            f"This server does not answer to the host name {host[:80]!r}.",
            code="unknown_host",
            hint="Add it to NULLSCOPE_ALLOWED_HOSTS.",
        )


def host_name(netloc: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    return re.sub(r":[0-9]+$", "", netloc).lower()


def safe_next(path: str) -> str:
    """Only a path of this server: no other site, no scheme, no backslash that a browser reads as a slash."""
    local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if local and not path.startswith("/login") else "/"


def check_origin(method: str, headers: Headers) -> None:
    """A change of state must come from our own pages, or from a program (which sends neither header)."""
    if method in SAFE_METHODS:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if origin is not None and site is None:
        foreign = urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign:
        raise ForbiddenError(
            "The request comes from another site.", code="cross_origin", hint="Use this server's own pages."
        )


def _counted(send: Send, gate: Gate, role: str) -> Send:
    """Answers by role and status, for /metrics."""

    async def write(message: Message) -> None:
        if message["type"] == "http.response.start":
            gate.answers[role, message["status"]] += 1
        await send(message)

    return write


def _with_headers(send: Send) -> Send:
    async def write(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if "cache-control" not in headers:
                headers["Cache-Control"] = "no-store"
        await send(message)

    return write
