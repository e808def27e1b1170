"""A page that is one form about a prompt: it runs what the form asks, and stands without what is refused.

PAGE = FormPage("/why", WhyState, TYPED, WhyPageView, answer, respond)
return await PAGE.show(request, caller, fields)
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from fastapi import Request, Response

from analysis.types import InputError, NotFoundError, NullscopeError
from app.core import at_hand, offloop, pages, turns
from app.core.caller import Caller, paid_of
from app.core.errors import RefusedFieldsError, failure_of
from app.core.view import ErrorBody, TraceView


class FormState(Protocol):
    """The form as far as it holds: a frozen pydantic model."""

    @property
    def model(self) -> str | None: ...

    @classmethod
    def holding(cls, fields: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state of a form or an address as far as it holds, and why the rest does not."""

    def plain(self) -> Self:
        """The same text, as it is first shown."""

    def query(self) -> dict[str, str]:
        """What stands in the address."""

    def model_copy(self, *, update: Mapping[str, Any]) -> Self: ...

    def model_dump(self) -> dict[str, Any]: ...


State = TypeVar("State", bound=FormState)
Answer = Callable[[Request, Caller, State], Awaitable[dict[str, Any]]]
"""What the page shows, as fields of its view; `state` among them where the answer filled it in."""


@dataclass(frozen=True)
class FormPage(Generic[State]):
    """path: below the root. typed: fields shown again as they were written, however wrong. view: has `state`, `models`
    and `problem` beside the answer's fields. respond: the view as a response, with `status` and `push`."""

    path: str
    state: type[State]
    typed: tuple[str, ...]
    view: Callable[..., Any]
    answer: Answer[State]
    respond: Callable[..., Response]

    async def show(self, request: Request, caller: Caller, fields: Mapping[str, Any]) -> Response:
        """A whole page stands without what is refused, and says so; a part of it gets the reason alone.

        It starts from what is at hand (`app.core.at_hand`), and what it was asked about is at hand afterwards.
        """
        html = pages.format_of(request) == "html"
        if html:
            hand = await offloop.read(at_hand.of, request)
            fields = hand.into(self.names, fields)
        read, wrong = self.state.holding(fields)
        key, unknown = caller.model(read.model)
        empty = cleared(fields) if request.method == "POST" else None
        refused: NullscopeError | None = empty or wrong or unknown
        state = read.model_copy(update={"model": key})
        view = self.view(state=state.model_dump(), models=list(caller.host.entries))
        if refused is None:
            try:
                view = view.model_copy(update=await self.answer(request, caller, state))
                named = self._keep(request, hand, view) if html else ""
                return self.respond(request, view, push=self._address(request, state, named))
            except NullscopeError as error:
                refused = error
        if pages.format_of(request) != "html" or pages.fragment_of(request):
            raise refused
        paid_of(request).refuse()
        left = (state, state.plain()) if refused in (wrong, unknown) else (state.plain(),)
        answer = await self._without(request, caller, () if empty else left, refused)
        failure = failure_of(refused).of_form()
        problem = ErrorBody(code=failure.code, message=failure.message, hint=failure.hint)
        typed = {name: fields[name] for name in self.typed if name in fields}
        if "turns" in type(view).model_fields and (said := turns.typed(fields)):
            answer["turns"] = said
        answer |= {"state": {**state.model_dump(), **answer.get("state", {}), **typed}, "problem": problem}
        return self.respond(request, view.model_copy(update=answer), status=failure.status)

    @property
    def names(self) -> frozenset[str]:
        """The fields of the form that are part of what is at hand."""
        kind: Any = self.state
        return frozenset(kind.model_fields).intersection(at_hand.FIELDS)

    def _keep(self, request: Request, hand: at_hand.AtHand, view: Any) -> str:
        """What the page is about is at hand from now on; its name, for the address."""
        state: Mapping[str, Any] = view.state
        trace: TraceView | None = getattr(view, "trace", None)
        now = {name: "" if state.get(name) is None else str(state[name]) for name in self.names}
        same = all(now[name] == hand.get(name) for name in self.names)
        if same and hand.name:
            return hand.name
        if now.get("text") != hand.get("text"):
            now["example"] = ""
        known: dict[str, Any] = {}
        if now.get("text") == hand.get("text"):
            known["tokens"] = hand.tokens
            if now.get("pos", hand.get("pos")) == hand.get("pos"):
                known["token"] = hand.token
        if trace is not None:
            known = at_hand.known(trace.tokens, now.get("pos") or hand.get("pos"))
        return at_hand.put(request, hand.into(at_hand.FIELDS, now), **known).name

    async def _without(
        self, request: Request, caller: Caller, states: tuple[State, ...], refused: NullscopeError
    ) -> dict[str, Any]:
        """The answer of the first of these states that has one; of none where it is not the state that was refused."""
        for left in states if isinstance(refused, InputError | NotFoundError) else ():
            with suppress(InputError, NotFoundError):
                return await self.answer(request, caller, left)
        return {}

    def _address(self, request: Request, state: State, named: str) -> str:
        page = pages.Page("", self.path, (), request.scope.get("root_path", "").rstrip("/"), (), {})
        return page.url(self.path, **state.query(), **({at_hand.NAME: named} if named else {}))


def cleared(fields: Mapping[str, Any]) -> RefusedFieldsError | None:
    """Why a form is refused that was sent with its prompt cleared: no other prompt is answered in its place. The turns
    of a conversation are none before the template has written them."""
    said = fields.get("panel") == "chat" and turns.typed(fields)
    if "text" not in fields or str(fields["text"]).strip() or said:
        return None
    return RefusedFieldsError("The prompt is empty.", ("text",))
