"""A part of a page that runs the model: its answer, or the sentence that stands in its place."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request

from analysis.types import InputError
from app.core import pages
from app.core.errors import Failure, RoleError, failure_of
from app.core.view import ErrorBody

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """view: None where there is nothing to show, or where the reader's role does not allow it (`problem` says so)."""

    view: T | None = None
    problem: ErrorBody | None = None
    status: int = 200


async def part(request: Request, work: Awaitable[T]) -> Part[T]:
    """What `work` gives; refused for the role, the page around it still stands.

    So it does where nobody asked for what is refused: a page that is opened starts from the prompt at hand, which may
    be too long for this model. Where there is no page around it (JSON, a fragment) a refusal is an error as ever.
    """
    try:
        return Part(await work)
    except RoleError as error:
        if pages.format_of(request) != "html" or pages.fragment_of(request):
            raise
        failure = failure_of(error)
        return Part(problem=_said(failure), status=failure.status)
    except InputError as error:
        if not _only_opened(request):
            raise
        return Part(problem=_said(failure_of(error).of_form()))


def _only_opened(request: Request) -> bool:
    """Whether a page, or a part of it that comes by itself, was opened at an address that names a model at most."""
    if request.method != "GET" or pages.format_of(request) != "html":
        return False
    return pages.fills_itself(request) if pages.fragment_of(request) else {"model"}.issuperset(request.query_params)


def _said(failure: Failure) -> ErrorBody:
    return ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
