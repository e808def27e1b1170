"""The page on which the model writes. Its script has the text as it comes; without one it comes whole."""

from typing import Any

from fastapi import Request, Response

from analysis.types import NotReadyError
from app.core import pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.form_page import FormPage
from app.core.lines import in_lines, wants_lines
from app.core.run import ask, lines
from app.generate.page_request import TYPED, WriteState
from app.generate.page_view import WritePageView
from app.generate.questions import GENERATE

router = routes(include_in_schema=False)


@router.get("/write")
async def opened(request: Request, caller: CallerDep) -> Response:
    """The form, as the address has it; nothing is written yet."""
    return await PAGE.show(request, caller, dict(request.query_params))


@router.post("/write")
@asks
async def asked(request: Request, caller: CallerDep) -> Response:
    """The text written; with `Accept: text/event-stream` an event a token."""
    form = await request.form()
    fields = {name: form[name] for name in form}
    if (kind := wants_lines(request)) is None:
        return await PAGE.show(request, caller, fields)
    state, wrong = WriteState.holding(fields)
    key, unknown = caller.model(state.model)
    if refused := wrong or unknown:
        raise refused
    try:
        return await in_lines(lines(caller, GENERATE, key, state.asked()), kind)
    except NotReadyError:  # of the reference means: it writes at once, and names no neurons
        return await in_lines(lines(caller, GENERATE, key, state.asked(top_neurons=0)), kind)


async def _answer(request: Request, caller: Caller, state: WriteState) -> dict[str, Any]:
    """What the page shows, as fields of the view."""
    key = state.model or caller.host.default_key
    server, wanted = pages.server(request), state.asked()
    shown: dict[str, Any] = {"python": server.call(key, "generate", wanted, 'answer["text"]')}
    if request.method == "POST":
        try:
            shown["answer"] = await ask(caller, GENERATE, key, wanted)
        except NotReadyError:
            shown["answer"] = await ask(caller, GENERATE, key, state.asked(top_neurons=0))
    return shown


def _respond(request: Request, view: WritePageView, *, status: int = 200, push: str | None = None) -> Response:
    return pages.respond(
        request,
        view,
        template="generate/write.html",
        title="Write",
        model=view.state.get("model"),
        status=status,
        push=push,
    )


PAGE = FormPage("/write", WriteState, TYPED, WritePageView, _answer, _respond)
"""The form as it stands, and the text written where it was sent."""
