"""The self-check page: per loaded model, live, with tolerances and figures."""

from fastapi import Request, Response

from analysis.types import NullscopeError
from app.core import pages
from app.core.answering import router as routes
from app.core.caller import CallerDep
from app.core.errors import RoleError, failure_of
from app.core.request import NothingAsked
from app.core.run import ask
from app.server.questions import CHECK
from app.server.view import ChecksView

router = routes(include_in_schema=False)


@router.get("/selfcheck")
async def selfcheck(request: Request, caller: CallerDep) -> Response:
    """Every identity that the numbers rest on, tried now on the resident weights."""
    checks, problems, status = [], {}, 200
    for key in list(caller.host.entries):
        try:
            checks.append(await ask(caller, CHECK, key, NothingAsked()))
        except RoleError as error:
            problems[key], status = error.message, failure_of(error).status
        except NullscopeError as error:
            problems[key] = error.message
    view = ChecksView(checks=checks, problems=problems)
    return pages.respond(request, view, template="server/selfcheck.html", title="Self-check", status=status)
