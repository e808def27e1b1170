"""The Why page: a token of the prompt is chosen, its entropy taken apart."""

from typing import Any

from fastapi import Request, Response

from app.core import pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.caller import Caller, CallerDep
from app.core.form_page import FormPage
from app.core.request import TraceRequest
from app.core.run import ask
from app.why import charts as figures
from app.why.page_request import TYPED, WhyState
from app.why.page_view import WhyPageView
from app.why.questions import CIRCUIT, WHY, WHY_COMPARE, WHY_TEXT

router = routes(include_in_schema=False)


@router.get("/why")
async def opened(request: Request, caller: CallerDep) -> Response:
    """The page with the text that it starts with; the address carries the rest of the state."""
    return await PAGE.show(request, caller, dict(request.query_params))


@router.post("/why")
@asks
async def asked(request: Request, caller: CallerDep) -> Response:
    """The form as it stands."""
    form = await request.form()
    return await PAGE.show(request, caller, {name: form[name] for name in form})


async def _answer(request: Request, caller: Caller, state: WhyState) -> dict[str, Any]:
    """What the page shows, as fields of the view."""
    key = state.model or caller.host.default_key
    server = pages.server(request)
    why = state.why()
    shown: dict[str, Any] = {
        "state": state.model_dump(),
        "why": await ask(caller, WHY, key, why),
        "python": server.call(key, "why", why, 'answer["sentence"]'),
        "trace": await ask(caller, caller.request.app.state.questions["trace"], key, TraceRequest(text=why.text)),
    }
    if state.along:
        whole = state.whole()
        shown["along"] = await ask(caller, WHY_TEXT, key, whole)
        shown["python_along"] = server.call(key, "why/text", whole, 'answer["components"]')
    if state.vs:
        compared = state.compared()
        shown["compared"] = await ask(caller, WHY_COMPARE, key, compared)
        shown["python_compared"] = server.call(key, "why/compare", compared, 'answer["sentence"]')
    if state.follow:
        circuit = state.circuit()
        shown["circuit"] = await ask(caller, CIRCUIT, key, circuit)
        shown["python_circuit"] = server.call(key, "circuit", circuit, 'answer["edges"][:5]')
    return shown


def _respond(request: Request, view: WhyPageView, *, status: int = 200, push: str | None = None) -> Response:
    why, along, circuit, compared = view.why, view.along, view.circuit, view.compared
    drawn: dict[str, Any] = {}
    if why is not None:
        drawn["why"] = lambda: figures.waterfall(why)
    if along is not None:
        drawn["along"] = lambda: figures.along(along)
    if compared is not None:
        drawn["why_compare"] = lambda: figures.differences(compared)
    if circuit is not None:
        drawn["circuit"] = lambda: figures.circuit(circuit)
    return pages.respond(
        request,
        view,
        template="why/why.html",
        title="Why",
        model=view.state.get("model"),
        figures=drawn,
        status=status,
        push=push,
    )


PAGE = FormPage("/why", WhyState, TYPED, WhyPageView, _answer, _respond)
