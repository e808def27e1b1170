"""A refused form loses nothing: its page is shown again, with the reason beside the form and what was typed in it.

Requests of htmx need none of this: they get the message alone (`pages.render_failure`), and the page stands as it is.
For the browser's own submissions the page is asked for once more, inside the program and through every check, without
what was refused. Where no page can be had so, the error is a page of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from starlette.datastructures import FormData, Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from app.core import pages
from app.core.access.roles import REFUSED
from app.core.caller import paid_of
from app.core.errors import API_HINT, FORM_HINT, Failure, failure_of

# What no page can be shown about: nobody is let in, or nobody waits.
NOT_FOR_PAGES = frozenset({401, 499})
# A request to read that was refused for its moment, not for what it asks, would be refused again.
MOMENTARY = frozenset({429, 500, 503})

Query = tuple[tuple[str, str], ...]


async def handle_error(request: Request, exc: Exception) -> Response:
    """The one exception handler: the error as JSON, as a fragment, on the page of its form, or as a page."""
    failure = failure_of(exc)
    if pages.format_of(request) != "html" or not (request.method == "POST" or request.scope["query_string"]):
        return pages.render_failure(request, failure)
    if pages.fragment_of(request):
        return pages.render_failure(request, failure.of_form())
    if REFUSED not in request.scope and failure.status not in NOT_FOR_PAGES:
        hint = FORM_HINT if failure.hint == API_HINT else failure.hint
        found = await _page_of_form(request, replace(failure, hint=hint))
        if found is not None:
            return found
    return pages.render_failure(request, failure)


async def _page_of_form(request: Request, failure: Failure) -> Response | None:
    path = _local(request, request.scope["path"])
    if request.method == "GET":
        query = tuple(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if not query or failure.status in MOMENTARY:
            return None
        sent, places = dict(query), _readings(request, path, query, failure)
    else:
        form: FormData | None = getattr(request, "_form", None)  # read by the handler; not to be had otherwise by now
        if form is None:
            return None
        sent, places = {name: value for name, value in form.items() if isinstance(value, str)}, _standing(request, path)
    there = True
    paid_of(request).refuse()
    for where, without in dict.fromkeys(places):
        if where != path and not there:
            break  # what is not here at all is not about a form
        blamed = failure.naming(sent) or _changed(sent, without)
        status, page = await _asked(request, where, without, pages.Refused(path, sent, failure, blamed))
        if page is not None:
            return Response(page, failure.of_form().status, {**failure.headers, "Vary": pages.VARY}, "text/html")
        there = request.method != "GET" or status != 404
    return None


def _readings(request: Request, path: str, query: Query, failure: Failure) -> Iterator[tuple[str, Query]]:
    """Addresses of the same page: where the form stood; without the fields to blame; the model alone; nothing. Last,
    the page of a form that leads to another one."""
    came_from = _referer(request)
    if came_from is not None and came_from[0] == path:
        yield came_from
    if blamed := failure.naming(dict(query)):
        yield path, tuple(pair for pair in query if pair[0] not in blamed)
    yield path, tuple(pair for pair in query if pair[0] == "model")
    yield path, ()
    if came_from is not None:
        yield came_from


def _standing(request: Request, path: str) -> Iterator[tuple[str, Query]]:
    """The page that the form was sent from; without a word about that, the nearest page above its action."""
    came_from = _referer(request)
    if came_from is not None:
        yield came_from
    while path not in ("", "/"):
        yield path, ()
        path = path.rpartition("/")[0]


def _referer(request: Request) -> tuple[str, Query] | None:
    """Path and query of the page of this server that a request was sent from."""
    named = urlsplit(request.headers.get("referer", ""))
    if not named.path or named.netloc.lower() != request.headers.get("host", "").lower():
        return None
    return _local(request, unquote(named.path)), tuple(parse_qsl(named.query, keep_blank_values=True))


def _changed(sent: Mapping[str, str], without: Query) -> frozenset[str]:
    return frozenset(name for name, value in sent.items() if dict(without).get(name, "") != value)


def _local(request: Request, path: str) -> str:
    root = request.scope.get("root_path", "").rstrip("/")
    return (path.removeprefix(root) if path == root or path.startswith(root + "/") else path) or "/"


async def _asked(request: Request, path: str, query: Query, refused: pages.Refused) -> tuple[int, bytes | None]:
    """(status, the page at this address as its reader would get it, with the refusal on it; None if it is no page)."""
    body, start = bytearray(), dict[str, Any]()
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            return await request.receive()  # whether its reader is still there
        told = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        body.extend(message.get("body", b""))

    await request.app(_scope(request, path, query, refused), receive, send)
    is_page = Headers(raw=start["headers"]).get("content-type", "").startswith("text/html")
    return start["status"], bytes(body) if start["status"] == 200 and is_page else None


def _scope(request: Request, path: str, query: Query, refused: pages.Refused) -> dict[str, Any]:
    """A request to read of the same person."""
    kept = ("type", "asgi", "http_version", "server", "client", "scheme", "extensions")
    about_body = (b"content-length", b"content-type", b"transfer-encoding")
    return {
        **{name: request.scope[name] for name in kept if name in request.scope},
        "method": "GET",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": urlencode(query).encode(),
        "headers": [(name, value) for name, value in request.scope["headers"] if name.lower() not in about_body],
        "state": {"paid": paid_of(request)},
        REFUSED: refused,
    }
