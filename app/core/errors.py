"""Exception -> status, code, message, hint: the one shape of an error, for JSON, page, fragment and shell.

Handlers raise; nobody formats an error but here. `app.core.pages` renders a Failure as a page or fragment.
"""

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from analysis.files import disk_full, is_full
from analysis.types import (
    CapacityError,
    DiskFullError,
    InputError,
    NotFoundError,
    NotReadyError,
    NullscopeError,
    UnsupportedModelError,
)
from app.core.wording import Words, refusals

log = logging.getLogger(__name__)

API_HINT = "See /api/v1/openapi.json."
FORM_HINT = "Correct it and send it again; nothing else has changed."


class RefusedFieldsError(InputError):
    """Fields of a form that do not hold. `fields` names them."""

    code = "invalid_request"

    def __init__(self, message: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=FORM_HINT)
        self.fields = fields


class TooLargeError(NullscopeError):
    """The request can never be served here: both numbers are in the message. 413."""


class ForbiddenError(NullscopeError):
    """Refused for this person or from this origin. 403."""


class RoleError(ForbiddenError):
    """Refused for this person's role; somebody with another may. 403."""

    code = "role"


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


class QuotaError(NullscopeError):
    """This person's share of the storage is used up; the hint says what to delete. 507."""

    code = "quota_reached"

    @classmethod
    def check(cls, what: str, taken: int, more: int, most: int | None, hint: str) -> None:
        """Raise where ``more`` bytes would pass the ``most`` that a person may have of something; None: no bound."""
        if most is not None and taken + more > most:
            rest = f"; {more / 1e6:,.1f} MB more do not fit." if more > 1 else "."
            raise cls(
                f"Your {what} take {taken / 1e6:,.1f} MB of the {most / 1e6:,.1f} MB "
                f"that one person may have here{rest}",
                hint=hint,
            )


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
    (DiskFullError, 507),
    (QuotaError, 507),
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
    fields: tuple[str, ...] = ()  # of the form or the address, where it is known which ones are to blame

    def of_form(self) -> "Failure":
        """The same about a form's field: its page is there, whatever it named that is not."""
        return replace(self, status=422) if self.status == 404 else self

    def naming(self, values: Mapping[str, str]) -> frozenset[str]:
        """Which of these fields the error is about: those that it names, else those whose value stands in it."""
        said = {word.rstrip(".") for word in re.findall(r"[\w.@-]{3,}", self.message)}
        return frozenset(self.fields) or frozenset(
            name for name, value in values.items() if said.intersection(re.split(r"[\s,;]+", value))
        )

    def body(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


def failure_of(exc: Exception) -> Failure:
    """What to answer for an exception. An unknown one is logged and becomes a 500 that gives nothing away."""
    from fastapi.exceptions import RequestValidationError  # a command, which has errors too, is quick without them
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    match exc:
        case NullscopeError():
            return _own(exc)
        case RequestValidationError() | ValidationError():
            errors = [*map(_within, exc.errors())] if isinstance(exc, RequestValidationError) else exc.errors()
            message = validation_message(errors)
            return Failure(422, "invalid_request", message, hint=API_HINT, fields=blamed(errors))
        case ClientDisconnect():
            return Failure(499, "client_gone", "The client closed the connection.")
        case HTTPException():
            code = _http_code(exc.status_code)
            if exc.status_code == 404 and exc.detail == "Not Found":
                hint = "Pages are in the menu above; the API's paths are at /api/v1/openapi.json."
                return Failure(404, code, "There is nothing at this address.", hint=hint)
            return Failure(exc.status_code, code, str(exc.detail), headers=dict(exc.headers or {}))
        case OSError() if is_full(exc):
            log.error("the disk is full: %s", exc)
            return _own(disk_full("what this request needs"))
        case _:
            log.error("unexpected error", exc_info=exc)
            return Failure(500, "internal", "Something went wrong here.", hint="The server's log has the cause.")


def _own(exc: NullscopeError) -> Failure:
    status = next((code for kind, code in STATUS if isinstance(exc, kind)), 500)
    retry_after = getattr(exc, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return Failure(status, exc.code, exc.message, exc.hint, headers, getattr(exc, "fields", ()))


def _http_code(status: int) -> str:
    names = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 408: "too_slow", 413: "too_large"}
    return names.get(status, f"http_{status}")


LOOKED_AT = 100
"""Errors of one request that are told of: there may be as many as somebody takes the trouble to send."""


def _within(error: Any) -> Any:
    """An error of FastAPI's by its place in the body, the address or the path: it names which of these first."""
    return {**error, "loc": error["loc"][1:]}


def blamed(errors: Iterable[Any]) -> tuple[str, ...]:
    """The outermost name of each place that an error names."""
    return tuple(dict.fromkeys(str(error["loc"][0]) for error in errors if error["loc"]))


def validation_message(errors: Iterable[Any], most: int = 5, words: Words | None = None) -> str:
    """A sentence about each violated rule, the field's name first. words: what stands beside the field on the page, for
    the place in what was sent; None: its name in the API."""
    found = [*errors]
    clauses = refusals(found[:LOOKED_AT], words)
    more = len(clauses) - most + len(found[LOOKED_AT:])
    shown = [clause.removesuffix(".") for clause in clauses[:most]]
    text = "; ".join([*shown, *([f"and {more} more"] if more > 0 else [])]) + "."
    return text.encode("utf-8", "replace").decode()  # a key of the input may hold a lone surrogate
