"""A part of a page that runs the model: its answer, or the sentence that stands in its place."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request

from app.core import pages
from app.core.errors import RoleError, failure_of
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

    Where there is no page around it (JSON, a fragment) a refusal is an error as ever.
    """
    try:
        return Part(await work)
    except RoleError as error:
        if pages.format_of(request) != "html" or pages.fragment_of(request):
            raise
        failure = failure_of(error)
        body = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
        return Part(problem=body, status=failure.status)
