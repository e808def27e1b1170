"""The prompt page, its permalink, and its live token count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Form, Request, Response

from analysis.types import InputError, NotFoundError, NullscopeError
from app.core import answer as core
from app.core import at_hand, offloop, pages, turns
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.caller import CallerDep, paid_of
from app.core.errors import RefusedFieldsError, failure_of
from app.core.example_files import ExampleRef
from app.core.marks import marks_of
from app.core.request import PromptRequest
from app.core.run import PAGE_PATIENCE, ask
from app.core.security import safe_next
from app.core.store import results
from app.core.view import ErrorBody, ErrorView, TokensView, TurnView, View
from app.prompt import answer, examples, permalink, story, to_view
from app.prompt import charts as figures
from app.prompt.questions import EVERYTHING, STORY, TOKENS, page_price
from app.prompt.request import ADD, FILTER, PromptState
from app.prompt.story_view import StoryRequest, TourView
from app.prompt.view import PromptView

router = routes(include_in_schema=False)

# What each fragment shows; a page without JavaScript, JSON and CSV have everything.
PARTS = {"result": {"selected"}, "selected": {"selected"}, "neurons": {"effects"}}
PLACES = {"form": "problem", "add": "add_problem", "filter": "filter_problem"}  # of a refusal -> the view's field
MARKS_PATIENCE = 0.05  # seconds: nobody waits for the atlas
TYPED = ("text", *ADD, *FILTER)  # fields that somebody writes: shown as written when they are refused


@dataclass
class Asked:
    """One request for the page: who asks, what was sent, what of it is refused so far (place on the page -> why)."""

    request: Request
    caller: CallerDep
    fields: Mapping[str, Any]
    first: bool = False
    problems: dict[str, NullscopeError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.strict = pages.format_of(self.request) != "html"
        self.block = pages.fragment_of(self.request)

    @property
    def key(self) -> str:
        """The model that was asked for."""
        key, unknown = self.caller.model(str(self.fields.get("model") or ""))
        if unknown is not None:
            self.refuse(unknown, "form")
        return key

    def refuse(self, error: NullscopeError, place: str) -> None:
        """Raise it, where only data or a part of the page is wanted; a whole page stands without what is refused."""
        if self.strict or self.block:
            raise Refusal(error, place)
        self.problems.setdefault(place, error)


class Refusal(Exception):
    """An error, and the place on the page where it belongs."""

    def __init__(self, error: NullscopeError, place: str) -> None:
        super().__init__(error.message)
        self.error, self.place = error, place


@router.get("/")
async def first(request: Request, caller: CallerDep) -> Response:
    """An example, computed beforehand where nothing else is asked for; the address carries the rest of the state."""
    fields: dict[str, Any] = dict(request.query_params)
    if pages.format_of(request) == "html" and not {"example", "text"}.intersection(fields):
        hand = await offloop.read(at_hand.of, request)
        fields = hand.into(at_hand.FIELDS, fields)
    return await _show(Asked(request, caller, fields, first=True))


@router.post("/")
@asks
async def run(request: Request, caller: CallerDep) -> Response:
    """The form as it stands, after the pressed button."""
    return await _show(Asked(request, caller, await _sent(request)))


async def _sent(request: Request) -> dict[str, Any]:
    form = await request.form()
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    return {**texts, "tick": tuple(form.getlist("tick"))}


async def _show(asked: Asked) -> Response:
    try:
        view, state = await _view(asked)
    except Refusal as refusal:
        return pages.render_failure(asked.request, failure_of(refusal.error).of_form(), place=refusal.place)
    # Without a run there is no filter and no form that adds: what is wrong with them stands on top.
    places = PLACES if view.trace is not None else dict.fromkeys(PLACES, "problem")
    problems = {places[place]: _problem(error)[1] for place, error in asked.problems.items()}
    view = view.model_copy(update=problems)
    if view.refuses:
        typed = {name: str(asked.fields[name]) for name in TYPED if name in asked.fields}
        view = view.model_copy(update={"typed": typed})
    if said := _unwritten(asked, view, state):
        view = view.model_copy(update={"turns": said})
    status = next((_problem(error)[0] for error in asked.problems.values()), 422 if view.refuses else 200)
    # What a page restores from its own history, or a refusal, leaves the browser's address alone.
    return _render(asked.request, view, state, status, moves=not view.refuses and not asked.fields.get("restored"))


def _unwritten(asked: Asked, view: PromptView, state: PromptState) -> list[TurnView]:
    """The turns as they stand in the page's fields, until the template has written them as the prompt."""
    kept = view.refuses or (view.turns is not None and asked.fields.get("act") != "chat")
    return turns.typed(asked.fields) if kept and asked.request.method == "POST" and not asked.strict else []


async def _view(asked: Asked) -> tuple[PromptView, PromptState]:
    """The view and the state that it is of, with what is refused put into `asked.problems`."""
    key = asked.key
    read, wrong = PromptState.holding(asked.fields)
    if wrong is not None:
        asked.refuse(wrong, _place_of(wrong))
    offered = await offloop.read(_offered, asked.caller, key)
    home = examples.own(asked.caller.host, key)
    state, example = examples.filled(read.model_copy(update={"model": key}), first=asked.first, home=home)
    frame: dict[str, Any] = {
        "story": await offloop.read(story.at_home, asked.caller.host, key),
        "models": list(asked.caller.host.entries),
        "examples": offered,
        "example": example and (example.elsewhere if home is None else example.ref),
    }
    before = state.unpressed()
    try:
        if state.act == "fit":
            text = await asked.caller.run(key, core.fitting, state.text, state.prepend_bos)
            state = before = state.model_copy(update={"text": text})
        if state.act == "chat":
            text = await asked.caller.run(key, core.written_as_chat, turns.written(asked.fields))
            state = before = state.model_copy(update={"text": text})
        state = state.acted()
        known = asked.first and home is not None
        ready = examples.stored(state, example, asked.caller.host.settings.dtype) if known else None
        if ready is not None:
            return ready.model_copy(update={**frame, "from_file": True}), state
        new = {*state.items, *state.watched}.difference(before.items, before.watched)
        return await _computed(asked, state, frame, new)
    except NullscopeError as error:
        loading = failure_of(error).code == "model_loading"
        if asked.block != "result" or not loading:  # that one asks again by itself
            asked.refuse(error, "add" if read.act == "add" else "form")
        else:
            asked.problems["form"] = error
        return await _what_stands(asked, before, frame, retry=isinstance(error, InputError | NotFoundError))


def _offered(caller: CallerDep, key: str) -> list[ExampleRef]:
    """This page's examples, and beside the bundled model's those of other pages. Reads their files, the first time."""
    examples.load(caller.host, key)
    home = examples.own(caller.host, key)
    bundled = home is not None and home.folder == examples.BUNDLED
    others = (other() for other in caller.request.app.state.examples) if bundled else ()
    return [*examples.refs(home), *(other for other in others if other is not None)]


async def _what_stands(
    asked: Asked, state: PromptState, frame: dict[str, Any], *, retry: bool
) -> tuple[PromptView, PromptState]:
    """The page without the pressed button; without switch and pin, if it is those; else the form alone."""
    plain = PromptState(model=state.model, text=state.text, do=state.do, watch=state.watch)
    paid_of(asked.request).refuse()
    for left in (state, plain) if retry else ():
        try:
            return await _computed(asked, left, frame)
        except (InputError, NotFoundError):
            continue
    return PromptView(state=state.fields(), chips=to_view.chips(state), **frame), state


async def _computed(
    asked: Asked, state: PromptState, frame: dict[str, Any], new: set[str] | None = None
) -> tuple[PromptView, PromptState]:
    if not state.text.strip():
        return PromptView(state=state.fields(), chips=to_view.chips(state), **frame), state
    parts = PARTS.get(asked.block or "", EVERYTHING)
    view = await asked.caller.run(state.model or "", answer.page, state, parts, frame, new or set(), asked.strict)
    if view.pin_problem is not None:
        asked.caller.give_back(page_price(state, parts) - page_price(state.model_copy(update={"pin": ""}), parts))
    if view.effects is not None:
        names = [row.neuron for row in view.effects.rows]
        marks = await marks_of(asked.caller, state.model or "", names, patience=MARKS_PATIENCE)
        view = view.model_copy(update={"marks": marks})
    return view, PromptState.read(view.state)


def _place_of(wrong: RefusedFieldsError) -> str:
    for place, names in (("add", ADD), ("filter", FILTER)):
        if set(wrong.fields) <= set(names):
            return place
    return "form"


def _render(request: Request, view: PromptView, state: PromptState, status: int, *, moves: bool) -> Response:
    whole = pages.fragment_of(request) == "result"
    hand = _at_hand(request, view, state)
    query = state.query()
    address = request.scope.get("root_path", "") + "/" + (f"?{query}" if query else "")
    if view.trace is not None:
        view = view.model_copy(update={"code": to_view.code(answer.held(state, view), pages.server(request))})
    return pages.respond(
        request,
        view.effects if view.effects and request.query_params.get("table") == "neurons" else view,
        template="prompt/prompt.html",
        title="Prompt",
        model=state.model,
        status=status,
        figures={"curves": lambda: figures.curves(view), "changes": lambda: figures.changes(view)},
        push=address if moves and whole else None,
        replace=address if moves and not whole else None,
        hand=hand,
        runs=True,
    )


def _at_hand(request: Request, view: PromptView, state: PromptState) -> at_hand.AtHand:
    """What this page shows is at hand from now on, if anybody asked for something."""
    fields, trace = view.state, view.trace
    items = zip(state.items, view.chips, strict=False)
    known: dict[str, Any] = {
        "tokens": None if trace is None else len(trace.tokens),
        "token": trace.tokens[int(fields["pos"])].text if trace is not None and fields.get("pos") else "",
        "problems": {item: chip.problem for item, chip in items if chip.problem} | view.unwatched,
    }
    if trace is not None and pages.format_of(request) == "html" and (request.method == "POST" or request.query_params):
        return at_hand.put(request, fields, **known)
    return at_hand.AtHand({name: fields[name] for name in at_hand.FIELDS if fields.get(name)}, **known)


@router.get("/tour")
async def tour(request: Request, caller: CallerDep, model: str = "") -> Response:
    """The story in five steps: recorded for the bundled model, else computed for the one that is served."""
    key = model or (at_hand.of_request(request) or at_hand.AtHand()).get("model") or caller.host.default_key
    found = await offloop.read(story.at_home, caller.host, key)
    problem = None
    if found is None:
        try:
            found = await ask(caller, STORY, key, StoryRequest(), patience=PAGE_PATIENCE)
        except NullscopeError as error:
            problem = _problem(error)
    view = TourView(model=key, story=found, problem=problem and problem[1])
    status = problem[0] if problem else 200
    return pages.respond(request, view, template="prompt/tour.html", title="Tour", model=key, status=status)


@router.post("/state")
@asks
async def change(request: Request, next: Annotated[str, Form()] = "/", act: Annotated[str, Form()] = "") -> Response:
    """A button of the bar, pressed on any page: what is at hand changes, and the page is shown again."""
    hand = await offloop.read(at_hand.of, request)
    state = PromptState.read({**hand.fields, "act": act}).acted()
    at_hand.put(request, state.fields(), tokens=hand.tokens, token=hand.token)
    return pages.redirect(request, safe_next(next))


@router.post("/share")
async def share(request: Request, caller: CallerDep) -> Response:
    """Store the prompt page as it stands and go to its permalink; a page that does not hold as it stands is shown with
    the reason."""
    asked = Asked(request, caller, {name: value for name, value in (await _sent(request)).items() if name != "act"})
    try:
        key = asked.key
        state = PromptState.read(asked.fields).model_copy(update={"model": key})
        if not state.text.strip():
            raise InputError("There is nothing to share.", code="empty_prompt", hint="Run a prompt first.")
        frame: dict[str, Any] = {"models": [], "examples": []}
        view = await caller.run(key, answer.page, state, EVERYTHING, frame, (), True, kind="share")
        new = await offloop.draw(permalink.of_page, PromptState.read(view.state), view)
        await caller.write(results.keep, new, caller.person, caller.settings.result_quota_bytes)
    except NullscopeError as error:
        asked.problems.setdefault("form", error)
        return await _show(asked)
    return pages.redirect(request, f"/r/{new.hash}")


@router.post("/count")
@asks
async def count(
    request: Request, caller: CallerDep, text: Annotated[str, Form()] = "", model: Annotated[str, Form()] = ""
) -> Response:
    """How many tokens the text in the box has, beside the limit; counted by the server while one types."""
    view: View = TokensView(n_tokens=0, max_tokens=0, tokens=[])
    if text:
        key = model or caller.host.default_key
        try:
            view = await ask(caller, TOKENS, key, PromptRequest(text=text.replace("\r\n", "\n")))
        except NullscopeError as error:  # too long, or a model that is still loading: said in the count's own place
            view = ErrorView(error=_problem(error)[1])
    return pages.respond(request, view, template="prompt/count.html", title="Tokens")


def _problem(error: NullscopeError) -> tuple[int, ErrorBody]:
    failure = failure_of(error).of_form()
    return failure.status, ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
