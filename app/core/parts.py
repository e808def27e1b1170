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
OF_A_TEXT = frozenset({"limit_tokens", "limit_characters", "unreadable_text", "empty_text"})
"""What is refused of a text itself, and of nothing that is asked about it."""


@dataclass(frozen=True)
class Part(Generic[T]):
    """view: None where there is nothing to show, or where the reader's role does not allow it (`problem` says so)."""

    view: T | None = None
    problem: ErrorBody | None = None
    status: int = 200


async def part(request: Request, work: Awaitable[T]) -> Part[T]:
    """What `work` gives; refused for the role, the page around it still stands.

    So it does where nobody asked for what is refused: a page that is opened starts from the prompt at hand, which may
    be too long for this model, whatever else its address asks for. Where there is no page around it (JSON, a fragment)
    a refusal is an error as ever.
    """
    try:
        return Part(await work)
    except RoleError as error:
        if pages.format_of(request) != "html" or pages.fragment_of(request):
            raise
        failure = failure_of(error)
        return Part(problem=_said(failure), status=failure.status)
    except InputError as error:
        if not (_only_opened(request) or _of_the_prompt_at_hand(request, error)):
            raise
        return Part(problem=_said(failure_of(error).of_form()))


def _only_opened(request: Request) -> bool:
    """Whether a page, or a part of it that comes by itself, was opened at an address that names a model at most."""
    if request.method != "GET" or pages.format_of(request) != "html":
        return False
    return pages.fills_itself(request) if pages.fragment_of(request) else {"model"}.issuperset(request.query_params)


def _of_the_prompt_at_hand(request: Request, error: InputError) -> bool:
    """Whether a page is refused a text that its address does not have."""
    page = request.method == "GET" and pages.format_of(request) == "html" and not pages.fragment_of(request)
    return page and error.code in OF_A_TEXT and "text" not in request.query_params


def _said(failure: Failure) -> ErrorBody:
    return ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
