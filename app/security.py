"""What stands in front of every request: host name, origin, body size; and the headers of every answer."""

from collections.abc import Callable
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from analysis.types import NullscopeError
from app.access.gate import Gate, local_path
from app.errors import ForbiddenError, TooLargeError, UnauthorizedError
from app.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UPLOADS = ("/api/v1/corpora", "/sweeps/text", "/api/v1/import", "/lab/import")  # where a file is received
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
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
        answer = _with_headers(send)
        limit = self.settings.max_body_bytes
        if scope["path"].endswith(UPLOADS):
            limit = max(limit, self.settings.max_upload_bytes)
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
        await self.app(scope, _bounded(receive, limit), _counted(answer, self.gate, identity.role))

    def _refuse(self, scope: Scope, receive: Receive, refusal: Exception) -> Response:
        """The error; a person who opens a page without being logged in is asked to log in and comes back to it."""
        headers, path = Headers(scope=scope), local_path(scope)
        page = scope["method"] == "GET" and "text/html" in headers.get("accept", "") and not path.startswith("/api/")
        if isinstance(refusal, UnauthorizedError) and refusal.code == "login_needed" and page:
            root = scope.get("root_path", "").rstrip("/")
            return RedirectResponse(f"{root}/login?next={quote(path)}", 303)
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
    head, colon, port = netloc.rpartition(":")
    return (head if colon and port.isdigit() else netloc).lower()


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


def check_length(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise HTTPException(400, "Content-Length is not a number.")
    if int(length[:20]) > limit:
        raise too_large(limit, f"{length[:20]} bytes")


def too_large(limit: int, size: str) -> TooLargeError:
    return TooLargeError(
        f"The request body has {size}; at most {limit} bytes are allowed here.",
        code="body_too_large",
        hint="Send less, or have the operator raise NULLSCOPE_MAX_BODY_BYTES (for files NULLSCOPE_MAX_UPLOAD_BYTES).",
    )


def _bounded(receive: Receive, limit: int) -> Receive:
    """The same stream, cut off with 413 where a body without (or with a false) length grows too long."""
    seen = 0

    async def read() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            # FastAPI turns any other exception raised while it reads a body into a 400.
            raise HTTPException(413, too_large(limit, "more").message)
        return message

    return read


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
