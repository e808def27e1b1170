"""A conversation in a page's form: a field for every turn (role0, turn0, role1, ...), and what the fields hold."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.types import InputError
from app.core.grammar import ROLES
from app.core.interventions import requested
from app.core.request import MOST_TURNS, TurnRequest
from app.core.view import TurnView

NAME = re.compile("turn([0-9]{1,4})")


def written(fields: Mapping[str, Any]) -> list[TurnRequest]:
    """The turns of a form, empty ones left out; where all are empty, its text is the user's. InputError for a role
    that is none, and for more turns than any door takes."""
    said = [{"role": role, "content": content} for role, content in _rows(fields) if role and content]
    if len(said) > MOST_TURNS:
        raise InputError(
            f"A conversation has at most {MOST_TURNS} turns; this one has {len(said)}.",
            code="too_many_turns",
            hint="Take the first ones out.",
        )
    return [
        requested(TurnRequest, **turn) for turn in said or [{"role": "user", "content": _lines(fields.get("text"))}]
    ]


def typed(fields: Mapping[str, Any]) -> list[TurnView]:
    """The fields as they were sent, empty ones too; none where nothing is in them."""
    rows = [TurnView(role=role, content=content) for role, content in _rows(fields) if role in ROLES]
    return rows if any(row.content for row in rows) else []


def _rows(fields: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Role and words of every turn that there is a field for, in their order."""
    numbers = sorted(int(found[1]) for name in fields if (found := NAME.fullmatch(name)))
    return [(fields.get(f"role{number}"), _lines(fields.get(f"turn{number}"))) for number in numbers]


def _lines(value: Any) -> str:
    """Browsers send CRLF for every line end of a text area."""
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


def offered(turns: Sequence[TurnView]) -> list[TurnView]:
    """What the fields hold: these turns, and empty ones where others may stand."""
    if not turns:
        return [TurnView(role=role) for role in ("system", "user", "assistant")]
    first = [] if turns[0].role == "system" else [TurnView(role="system")]
    return [*first, *turns, TurnView(role="assistant" if turns[-1].role == "user" else "user")]
