"""Exception -> status, code, message, hint: the one shape of an error, for JSON, page, fragment and shell.

Handlers raise; nobody formats an error but here. `app.pages` renders a Failure as a page or fragment.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from analysis.types import (
    CapacityError,
    InputError,
    NotFoundError,
    NotReadyError,
    NullscopeError,
    UnsupportedModelError,
)

log = logging.getLogger(__name__)


class TooLargeError(NullscopeError):
    """The request can never be served here: both numbers are in the message. 413."""


class ForbiddenError(NullscopeError):
    """Refused for this person or from this origin. 403."""


class UnauthorizedError(NullscopeError):
    """No valid identity where one is needed. 401."""


class ConflictError(NullscopeError):
    """The state of the thing does not allow it. 409."""


class BusyError(NullscopeError):
    """Too much at once. 429, and the answer says when to try again."""

    def __init__(self, message: str, *, retry_after: float = 1.0, code: str = "busy", hint: str | None = None) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after = retry_after


class UnavailableError(NullscopeError):
    """Not now: a model still loading, memory taken, out of time. 503."""

    code = "unavailable"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after = retry_after


class ClientGoneError(NullscopeError):
    """Whoever asked has left; nobody reads the answer. 499 in the log."""


# The first class an exception is an instance of decides.
STATUS: tuple[tuple[type[NullscopeError], int], ...] = (
    (InputError, 422),
    (NotFoundError, 404),
    (NotReadyError, 409),
    (ConflictError, 409),
    (TooLargeError, 413),
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (BusyError, 429),
    (UnavailableError, 503),
    (CapacityError, 413),
    (UnsupportedModelError, 422),
    (ClientGoneError, 499),
)


@dataclass(frozen=True)
class Failure:
    """An error ready to be shown."""

    status: int
    code: str
    message: str
    hint: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


def failure_of(exc: Exception) -> Failure:
    """What to answer for an exception. An unknown one is logged and becomes a 500 that gives nothing away."""
    match exc:
        case NullscopeError():
            return _own(exc)
        case RequestValidationError() | ValidationError():
            return Failure(422, "invalid_request", validation_message(exc.errors()), hint="See /api/v1/openapi.json.")
        case ClientDisconnect():
            return Failure(499, "client_gone", "The client closed the connection.")
        case HTTPException():
            code = _http_code(exc.status_code)
            return Failure(exc.status_code, code, str(exc.detail), headers=dict(exc.headers or {}))
        case _:
            log.error("unexpected error", exc_info=exc)
            return Failure(500, "internal", "Something went wrong here.", hint="The server's log has the cause.")


def _own(exc: NullscopeError) -> Failure:
    status = next((code for kind, code in STATUS if isinstance(exc, kind)), 500)
    retry_after = getattr(exc, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return Failure(status, exc.code, exc.message, exc.hint, headers)


def _http_code(status: int) -> str:
    names = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    return names.get(status, f"http_{status}")


def validation_message(errors: Iterable[Any], most: int = 5) -> str:
    """`where: what` of each violated rule, without echoing the input (it may be huge, or hostile)."""
    parts = []
    for error in errors:
        where = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path", "form"))
        what = str(error["msg"]).removeprefix("Value error, ")
        parts.append(f"{where}: {what}" if where else what)
    shown = "; ".join(dict.fromkeys(parts[:most]))
    text = shown + (f"; and {len(parts) - most} more" if len(parts) > most else "")
    return text.encode("utf-8", "replace").decode()  # a key of the input may hold a lone surrogate
