"""A conversation in a page's form: a field for every turn (role0, turn0, role1, ...), and what the fields hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.grammar import ROLES
from app.core.interventions import requested
from app.core.request import TurnRequest
from app.core.view import TurnView

FIELDS = 24
"""Turns that a form has fields for, and the API more."""
TYPED = tuple(f"turn{number}" for number in range(FIELDS))


def written(fields: Mapping[str, Any]) -> list[TurnRequest]:
    """The turns of a form, empty ones left out; where all are empty, its text is the user's. InputError for a role
    that is none."""
    pairs = [(fields.get(f"role{number}"), _lines(fields.get(name))) for number, name in enumerate(TYPED)]
    said = [{"role": role, "content": content} for role, content in pairs if role and content]
    return [
        requested(TurnRequest, **turn) for turn in said or [{"role": "user", "content": _lines(fields.get("text"))}]
    ]


def typed(fields: Mapping[str, Any]) -> list[TurnView]:
    """The fields as they were sent, empty ones too; none where nothing is in them."""
    pairs = [(fields.get(f"role{number}"), _lines(fields.get(name))) for number, name in enumerate(TYPED)]
    rows = [TurnView(role=role, content=content) for role, content in pairs if role in ROLES]
    return rows if any(row.content for row in rows) else []


def _lines(value: Any) -> str:
    """Browsers send CRLF for every line end of a text area."""
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


def offered(turns: Sequence[TurnView]) -> list[TurnView]:
    """What the fields hold: these turns, and empty ones where others may stand."""
    if not turns:
        return [TurnView(role=role) for role in ("system", "user", "assistant")]
    first = [] if turns[0].role == "system" else [TurnView(role="system")]
    return [*first, *turns, TurnView(role="assistant" if turns[-1].role == "user" else "user")][:FIELDS]
