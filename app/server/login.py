"""Logging in and out with a browser: a key becomes a cookie."""

from typing import Annotated

from fastapi import Form, Request, Response

from analysis.types import NullscopeError
from app.core import at_hand, pages
from app.core.access.gate import COOKIE, Gate, client_of
from app.core.access.roles import public
from app.core.answering import router as routes
from app.core.caller import CallerDep
from app.core.errors import failure_of
from app.core.security import safe_next
from app.core.store import logins
from app.core.view import ErrorBody
from app.server.view import LoginView

router = routes(include_in_schema=False)


@router.get("/login")
@public
async def ask(request: Request, next: str = "/") -> Response:
    """The form."""
    return pages.respond(request, LoginView(next=safe_next(next)), template="server/login.html", title="Log in")


@router.post("/login")
@public
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
        answer = pages.respond(request, page, template="server/login.html", title="Log in", status=failure.status)
        answer.headers.update(failure.headers)
        return answer
    old = request.cookies.get(COOKIE)
    if old:
        await caller.write(logins.end, old)
    seconds = gate.settings.login_hours * 3600
    secret = await caller.write(logins.begin, identity.name, identity.key_id or "", seconds)
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
@public
async def log_out(request: Request, caller: CallerDep) -> Response:
    """End the session here and in the database."""
    secret = request.cookies.get(COOKIE)
    if secret:
        await caller.write(logins.end, secret)
    answer = pages.redirect(request, "/login")
    answer.delete_cookie(COOKIE, path=caller.root or "/")
    answer.delete_cookie(at_hand.COOKIE, path=caller.root or "/")
    caller.request.app.state.desks.forget(caller.request)
    return answer
