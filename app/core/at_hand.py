"""What a person has at hand: model, prompt, selected token, interventions, pinned run, watched neurons.

Every page starts from it, shows it in the bar at its top and hands it on.

It belongs to a browser's session: a cookie of random bits names it, beside who one is, and it lives in this process'
memory, bounded, until it is too old. Texts stand in no address: an address may carry the name of a prompt that this
session had at hand (`prompt=`), so that going back and loading anew bring the same text. Programs (JSON, CSV) have no
session: they are answered by what they send.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.core import offloop
from app.core.access.roles import SAFE_METHODS, allows
from app.core.chips import Chip, chip
from app.core.view import Token

State = TypeVar("State", bound=BaseModel)
COOKIE = "nullscope_at_hand"
NAME = "prompt"
"""The field of an address or a form that names a prompt of this session."""
FIELDS = ("model", "example", "text", "bos", "ln", "pos", "to", "do", "watch", "pin")
"""What is at hand, named and written as the prompt page's form writes it."""

SESSIONS, SECONDS = 1024, 24 * 3600.0
PROMPTS = 24  # of one session, the latest
MOST_BYTES = 1 << 20  # of one session; what is larger is not kept
ALL_BYTES = 64 << 20


@dataclass(frozen=True)
class AtHand:
    """fields: of FIELDS, those that are not empty. tokens: of the prompt, where known. token: the selected one."""

    fields: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    tokens: int | None = None
    token: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Of an intervention or a watched neuron as it is written: why it does not hold for this model and text."""

    def get(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def chips(self) -> list[Chip]:
        return [chip(item, self.problems.get(item)) for item in self.get("do").split()]

    @property
    def watched(self) -> list[str]:
        return list(dict.fromkeys(self.get("watch").replace(",", " ").split()))

    @property
    def neurons(self) -> list[str]:
        """Every neuron that is at hand: what charts and tables mark."""
        return list(dict.fromkeys([*self.watched, *(chip.neuron for chip in self.chips if not chip.head)]))

    @property
    def preview(self) -> str:
        text = " ".join(self.get("text").split())
        return text if len(text) <= 28 else text[:27] + "…"

    def into(self, names: Collection[str], given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, the fields that were sent, with what is at hand for the others of `names`.

        Another text brings no position along; another model neither that nor neurons, which are others there.
        """
        left = set[str]()
        if given.get("text") and given["text"] != self.get("text"):
            left |= {"pos", "to", "example"}
        if given.get("model") and given["model"] != self.get("model"):
            left |= {"pos", "to", "example", "do", "watch"}
        own = {name: value for name, value in self.fields.items() if name in names and name not in left | given.keys()}
        return {**own, **given}


@dataclass
class _Session:
    current: AtHand
    prompts: OrderedDict[str, AtHand]
    at: float

    @property
    def size(self) -> int:
        return sum(len(value) for kept in self.prompts.values() for value in kept.fields.values())


class Desks:
    """The sessions of this process. first: what is at hand where nobody has chosen anything."""

    def __init__(self, first: Callable[[], AtHand], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.first = first
        self._clock = clock
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()

    def of(self, request: Request) -> AtHand:
        """What whoever asks has at hand: the prompt that the address names, else the current one."""
        return self.kept(request) or self.first()

    def kept(self, request: Request) -> AtHand | None:
        """The same, or None where nobody has chosen anything: reads no file."""
        session = self._session(request)
        if session is None:
            return None
        return session.prompts.get(request.query_params.get(NAME, ""), session.current)

    def put(self, request: Request, fields: Mapping[str, Any], **known: Any) -> AtHand:
        """Keep it for this session, beginning one where there is none; nothing is kept of what another site asked for,
        nor for a program that only looks.

        fields: as a form has them; those that are no part of what is at hand are passed over. known: the rest of
        `AtHand`.
        """
        kept = {name: str(fields[name]) for name in FIELDS if fields.get(name) not in (None, "")}
        now = AtHand(kept, **known)
        if not _own(request) or sum(map(len, kept.values())) > MOST_BYTES:
            return now
        key = self._key(request)
        if key is None:
            request.state.new_desk = secrets.token_urlsafe(24)
            key = self._key(request)
            assert key is not None
        session = self._sessions.get(key) or _Session(now, OrderedDict(), 0.0)
        same = (name for name, old in session.prompts.items() if _prompt(old) == _prompt(now))
        now = replace(now, name=next(same, None) or secrets.token_hex(4))
        session.prompts[now.name] = now
        session.prompts.move_to_end(now.name)
        while len(session.prompts) > PROMPTS or session.size > MOST_BYTES:
            session.prompts.popitem(last=False)
        session.current, session.at = now, self._clock()
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        self._tidy()
        request.state.at_hand_changed = True
        return now

    def forget(self, request: Request) -> None:
        """Whoever logs out leaves nothing."""
        if (key := self._key(request)) is not None:
            self._sessions.pop(key, None)

    def _session(self, request: Request) -> _Session | None:
        key = self._key(request)
        found = None if key is None else self._sessions.get(key)
        return found if found is not None and self._clock() - found.at < SECONDS else None

    def _key(self, request: Request) -> tuple[str, str] | None:
        """Who one is, and the cookie: a cookie that comes to another person names nothing."""
        secret = getattr(request.state, "new_desk", None) or request.cookies.get(COOKIE)
        return (getattr(request.state, "person", "") or "", secret) if secret else None

    def _tidy(self) -> None:
        old = self._clock() - SECONDS
        while len(self._sessions) > 1:
            first = next(iter(self._sessions.values()))
            total = sum(session.size for session in self._sessions.values())
            if len(self._sessions) <= SESSIONS and total <= ALL_BYTES and first.at >= old:
                return
            self._sessions.popitem(last=False)


def of(request: Request) -> AtHand:
    desks: Desks = request.app.state.desks
    return desks.of(request)


def put(request: Request, fields: Mapping[str, Any], **known: Any) -> AtHand:
    desks: Desks = request.app.state.desks
    return desks.put(request, fields, **known)


def hand_over(request: Request, response: Response) -> Response:
    """The answer, with the cookie of a session that this request began."""
    if secret := getattr(request.state, "new_desk", None):
        response.set_cookie(
            COOKIE,
            secret,
            path=str(request.scope.get("root_path", "")).rstrip("/") or "/",
            secure=request.scope["scheme"] == "https",
            httponly=True,
            samesite="lax",
        )
    return response


async def started(request: Request, state: State) -> State:
    """The state of a page that is opened, with the prompt that its bar shows where its address names none.

    A reader, who may not compute, is shown the page as it is by itself, which says on which text that is.
    """
    if not _wants_a_page(request) or not _may_run(request):
        return state
    hand = await offloop.read(of, request)
    fields = state.model_dump(include={"text", "model", "pos"})
    own = hand.into(fields.keys(), {name: value for name, value in fields.items() if value})
    return state.model_copy(update=own)


def of_request(request: Request) -> AtHand | None:
    desks: Desks = request.app.state.desks
    return desks.kept(request)


def take_up(request: Request, model: str, text: str, *, pos: str = "", tokens: Sequence[Token] = ()) -> None:
    """The text that a page's own form was sent with is at hand from now on, and the token that was chosen in it."""
    if request.method in SAFE_METHODS or not text.strip() or not (_wants_a_page(request) and _may_run(request)):
        return
    hand, plain = of_request(request) or AtHand(), text.replace("\r\n", "\n")
    same = plain == hand.get("text") and model == hand.get("model")
    if same and pos in ("", hand.get("pos")):
        return
    chosen = {"pos": pos, "to": ""} if pos else {}
    put(request, hand.into(FIELDS, {"model": model, "text": plain, **chosen}), **known(tokens, pos))


def known(tokens: Sequence[Token], pos: str) -> dict[str, Any]:
    """Of a prompt's tokens, what `AtHand` says of them: how many, and which one is selected."""
    token = next((token.text for token in tokens if str(token.position) == pos), "")
    return {"tokens": len(tokens) or None, "token": token}


def _may_run(request: Request) -> bool:
    """A page of a reader, who may not compute, is not asked about a text."""
    return allows(request.state.identity.role, "run")


def _wants_a_page(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    wants_data = "application/json" in accept and "text/html" not in accept
    return request.query_params.get("format", "html") == "html" and not wants_data


def changed(request: Request) -> bool:
    """Whether this request changed what is at hand, so that the bar of the page is another one now."""
    return bool(getattr(request.state, "at_hand_changed", False))


def _prompt(kept: AtHand) -> tuple[str, str]:
    return kept.get("model"), kept.get("text")


def _own(request: Request) -> bool:
    """Whether a person asked for this from a page of ours, or by typing the address."""
    if request.method not in SAFE_METHODS:
        return True  # `app.core.security` has looked at its origin
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return urlsplit(request.headers.get("referer", "")).netloc == request.headers.get("host", "")
