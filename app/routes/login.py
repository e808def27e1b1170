"""Logging in and out with a browser: a key becomes a cookie."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from analysis.types import NullscopeError
from app import pages
from app.access.gate import COOKIE, Gate, client_of
from app.db import logins
from app.deps import CallerDep
from app.errors import failure_of
from app.views.core import ErrorBody
from app.views.lab import LoginView

router = APIRouter(include_in_schema=False)


def safe_next(path: str) -> str:
    """Only a path of this server: no other site, no scheme, no backslash that a browser reads as a slash."""
    local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if local and not path.startswith("/login") else "/"


@router.get("/login")
async def ask(request: Request, next: str = "/") -> Response:
    """The form."""
    return pages.respond(request, LoginView(next=safe_next(next)), template="login.html", title="Log in")


@router.post("/login")
async def log_in(
    request: Request, caller: CallerDep, key: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
) -> Response:
    """A right key begins a new session; whatever session the browser brought along ends."""
    gate: Gate = request.app.state.gate
    try:
        identity = await gate.by_key(key.strip(), client_of(request.scope))
    except NullscopeError as error:
        failure = failure_of(error)
        problem = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
        page = LoginView(next=safe_next(next), problem=problem)
        answer = pages.respond(request, page, template="login.html", title="Log in", status=failure.status)
        answer.headers.update(failure.headers)
        return answer
    old = request.cookies.get(COOKIE)
    if old:
        await caller.db(logins.end, old)
    seconds = gate.settings.login_hours * 3600
    secret = await caller.db(logins.begin, identity.name, identity.key_id or "", seconds)
    answer = pages.redirect(request, safe_next(next))
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(seconds),
        path=caller.root or "/",
        secure=request.scope["scheme"] == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post("/logout")
async def log_out(request: Request, caller: CallerDep) -> Response:
    """End the session here and in the database."""
    secret = request.cookies.get(COOKIE)
    if secret:
        await caller.db(logins.end, secret)
    answer = pages.redirect(request, "/login")
    answer.delete_cookie(COOKIE, path=caller.root or "/")
    return answer
