"""Numbers, positions and lists of names as people write them, read and printed for every page, request and command.

    read_number("−0.5")          # -0.5; what is no finite decimal number is refused
    read_positions("2,5-7")      # (2, 5, 6, 7); a single range, ends included, is a Span
    listed("3.17, 3.20")         # ["3.17", "3.20"]

Neurons and heads read themselves (`analysis.types`). Only ASCII digits are digits.
"""

import re

from analysis.types import InputError, Span, unread

MOST_POSITIONS = 10_000  # that a text with ranges may name
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"[0-9]{1,9}")


def read_number(text: str) -> float:
    """A finite decimal number, with the minus of a keyboard or of print; InputError."""
    plain = text.strip().replace("−", "-")
    number = float(plain) if _NUMBER.fullmatch(plain) else float("inf")
    if number in (float("inf"), float("-inf")):
        raise InputError(unread(text, "a number"), code="invalid_number", hint="Write it as 1.5 or 2e-3.")
    return number


def write_number(number: float) -> str:
    """Every digit of it, and no more: `read_number` gives the same number."""
    return repr(float(number)).removesuffix(".0")


def printed(number: float, form: str) -> str:
    """A number in a sentence: `format`'s, with the sign that is a minus; an exponent keeps its hyphen, to be copied."""
    text = format(number, form)
    return "−" + text[1:] if text.startswith("-") else text


def read_integer(text: str) -> int:
    """A count or an index, from 0; InputError."""
    if not _INTEGER.fullmatch(text.strip()):
        raise InputError(unread(text, "a whole number"), code="invalid_number", hint="Write it as 12.")
    return int(text)


def read_positions(text: str) -> tuple[int, ...] | Span | None:
    """`4-9` (both included), `3,7`, or both: `2,5-7`. `all`: None. InputError."""
    plain = text.replace(" ", "").replace("–", "-")
    if plain == "all":
        return None
    if not plain:
        raise InputError("No position is named.", code="invalid_positions", hint="Write 4, 3,7 or 4-9, counted from 0.")
    try:
        ranges = [_range(part) for part in plain.split(",")]
    except InputError as error:
        raise InputError(
            f"{text[:40]!r} does not name positions: {error.message}",
            code="invalid_positions",
            hint="Write 4, 3,7 or 4-9, counted from 0.",
        ) from None
    if len(ranges) == 1 and "-" in plain:
        return Span(ranges[0].start, ranges[0].stop)
    if sum(map(len, ranges)) > MOST_POSITIONS:
        raise InputError(f"{text[:40]!r} names more than {MOST_POSITIONS} positions.", code="invalid_positions")
    return tuple(position for each in ranges for position in each)


def _range(part: str) -> range:
    first, dash, last = part.partition("-")
    start = read_integer(first)
    stop = read_integer(last) + 1 if dash else start + 1
    if stop <= start:
        raise InputError(f"{part[:20]!r} runs backwards.")
    return range(start, stop)


def write_positions(positions: tuple[int, ...] | Span | None) -> str:
    """`read_positions` gives the same ones."""
    if positions is None:
        return "all"
    if isinstance(positions, Span):
        return f"{positions.start}-{positions.stop - 1}"
    return ",".join(map(str, positions))


def listed(text: str) -> list[str]:
    """The names in a text, each once: spaces, commas or semicolons between them."""
    return list(dict.fromkeys(re.findall(r"[^\s,;]+", text)))
