"""The self-check page: per loaded model, live, with tolerances and figures."""

from fastapi import APIRouter, Request, Response

from analysis.types import NullscopeError
from app import pages
from app.answers.check import check
from app.deps import CallerDep
from app.views.lab import ChecksView

router = APIRouter(include_in_schema=False)


@router.get("/selfcheck")
async def selfcheck(request: Request, caller: CallerDep) -> Response:
    """Every identity that the numbers rest on, tried now on the resident weights."""
    checks, problems = [], {}
    for key in list(caller.host.entries):
        try:
            checks.append(await caller.run(key, check, identity=f"check {key}"))
        except NullscopeError as error:
            problems[key] = error.message
    view = ChecksView(checks=checks, problems=problems)
    return pages.respond(request, view, template="selfcheck.html", title="Self-check")
