"""What a field that does not hold is told, in our words. Pydantic's are of inputs, instances and patterns.

    refusals(error.errors())   # ["limit must be at most 1000", "mode in the 2nd of dials must be scale or value"]

A field's own rule raises ValueError with a sentence of its own, which stands behind the field's name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Place = tuple[str | int, ...]
"""Names and indices that lead to a value: `("dials", 1, "mode")`."""
Words = Callable[[tuple[Any, ...]], str]
"""What a page calls the place of a value, "" where it has no word for it."""

# Pydantic names the members of a union in the place of an error. Those that we name (`a neuron`) have a space.
_MEMBERS = frozenset({"int", "float", "str", "bool", "none", "dict"})
_FIELD = re.compile(r"[a-z_][a-z0-9_]*")

_WHOLE = "a whole number, such as 12"
_NUMBER = "a finite number, such as 1.5"
_TRUTH = "true or false"
_TEXT = "a text"
_LIST = "a list"
_OBJECT = "an object of named fields"
_DATE = "a date and time, such as 2024-05-01T12:00:00Z"

# What would have been accepted, where the value is of another kind.
_KINDS: dict[str, str] = {
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER, "finite_number": "a finite number",
    "bool_type": _TRUTH, "bool_parsing": _TRUTH,
    "string_type": _TEXT, "string_unicode": "a text of whole characters",
    "list_type": _LIST, "tuple_type": _LIST, "set_type": _LIST, "frozen_set_type": _LIST, "iterable_type": _LIST,
    "dict_type": _OBJECT, "model_type": _OBJECT, "model_attributes_type": _OBJECT, "mapping_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "datetime_type": _DATE, "datetime_parsing": _DATE, "datetime_from_date_parsing": _DATE,
    "none_required": "null",
}  # fmt: skip

# What a value of the right kind violates.
_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda ctx: f"must be greater than {_number(ctx['gt'])}",
    "greater_than_equal": lambda ctx: f"must be at least {_number(ctx['ge'])}",
    "less_than": lambda ctx: f"must be less than {_number(ctx['lt'])}",
    "less_than_equal": lambda ctx: f"must be at most {_number(ctx['le'])}",
    "multiple_of": lambda ctx: f"must be a multiple of {_number(ctx['multiple_of'])}",
    "string_too_short": lambda ctx: _at_least(ctx["min_length"], "character"),
    "string_too_long": lambda ctx: f"must have at most {_counted(ctx['max_length'], 'character')}",
    "too_short": lambda ctx: _at_least(ctx["min_length"], "item"),
    "too_long": lambda ctx: f"must have at most {_counted(ctx['max_length'], 'item')}",
    "string_pattern_mismatch": lambda ctx: f"must be {_SPELLINGS[ctx['pattern']]}",
    "missing": lambda ctx: "is missing",
    "missing_argument": lambda ctx: "is missing",
    "extra_forbidden": lambda ctx: "is not known here",
}
_SPELLINGS: dict[str, str] = {}


def spelled(pattern: str, words: str) -> str:
    """The pattern of a field, with what it is called where a value is not so: `must be ` and these words."""
    _SPELLINGS[pattern] = words
    return pattern


def refusals(errors: Iterable[Mapping[str, Any]], words: Words | None = None) -> list[str]:
    """A clause for each place of pydantic's errors, without echoing the value (it may be huge, or hostile). words: what
    a page calls a place, "" for its name.

    The members of a union have an error each: of those that got further than the value's kind, else of all kinds
    together.
    """
    places: dict[Place, list[Mapping[str, Any]]] = {}
    for error in errors:
        places.setdefault(place(error), []).append(error)
    broken = {where: [error for error in found if not _of_kind(error)] for where, found in places.items()}
    deeper = {where[:n] for where in places for n in range(len(where))}
    clauses = []
    for where, found in places.items():
        if broken[where] or where not in deeper:
            clauses.append(_clause((words and words(where)) or named(where), where, broken[where] or found))
    return list(dict.fromkeys(clauses))


def place(error: Mapping[str, Any]) -> Place:
    """Names and indices that lead to the value; of a key that is not known, itself, whatever it is."""
    parts = [*error["loc"]]
    last = parts.pop() if parts and error["type"] == "extra_forbidden" else None
    kept = [part for part in parts if isinstance(part, int) or (_FIELD.fullmatch(part) and part not in _MEMBERS)]
    return (*kept, *(() if last is None else (last,)))


def _of_kind(error: Mapping[str, Any]) -> bool:
    return error["type"] in _KINDS or error["type"] in ("literal_error", "enum", "union_tag_invalid")


def _clause(name: str, where: Place, found: list[Mapping[str, Any]]) -> str:
    if found[0]["type"] == "json_invalid":
        return f"The body is not JSON: it goes wrong at character {where[0] if where else 0}"
    whole = name or "the request"
    if any(_of_kind(error) for error in found):
        kinds = dict.fromkeys(_accepted(error) for error in found)
        return f"{whole} must be {', or '.join(kind for kind in kinds if kind != 'null' or len(kinds) == 1)}"
    whats = dict.fromkeys(_BOUNDS[error["type"]](error.get("ctx", {})) for error in found if error["type"] in _BOUNDS)
    said = [str(error["msg"]).removeprefix("Value error, ") for error in found if error["type"] == "value_error"]
    if said:
        return "; ".join(f"{name}: {what}" if name else what for what in dict.fromkeys(said))
    return f"{whole} {' and '.join(whats) or 'cannot be read'}"


def _accepted(error: Mapping[str, Any]) -> str:
    if error["type"] in _KINDS:
        return _KINDS[error["type"]]
    words = re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))
    shown = [word or "empty" for word in words]
    return " or ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:]))) or "one of the values that are known"


def named(where: Place) -> str:
    """The place of a value in words: `limit`, `neurons in the 2nd of dials`."""
    words: list[str] = []
    for part in where:
        if isinstance(part, int) and words:
            words[-1] = f"the {_ordinal(part + 1)} of {words[-1]}"
        else:
            words.append(f"{str(part)[:40]}" if isinstance(part, str) else f"the {_ordinal(part + 1)}")
    return " in ".join(reversed(words))


def _ordinal(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _at_least(n: int, what: str) -> str:
    return "must not be empty" if n == 1 else f"must have at least {_counted(n, what)}"


def _number(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
