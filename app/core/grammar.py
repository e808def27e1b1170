"""How people write what a request asks for. The request's fields read it, so that a page, the API and a command accept
the same texts and refuse the others with the same sentence.

    read_intervention("3.17:clip=0..1@2,6")   # {"neuron": "3.17", "mode": "clip", "min": 0.0, "max": 1.0, ...}
"""

from collections.abc import Callable
from itertools import compress
from typing import Any

from pydantic import BeforeValidator

from analysis.grammar import read_number, read_positions
from analysis.types import HeadId, InputError, NeuronId, Span, unread

MOST_NAMED = 10_000
"""Neurons, heads or interventions in one list, whatever an operator allows: each takes time to read."""
ROLES = ("system", "user", "assistant")
BASELINES = ("mean", "prompt_mean", "zero")


def reads(read: Callable[[str], Any]) -> BeforeValidator:
    """The field may be given as a text, which `read` reads; its InputError is what the reader is told."""

    def given(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return read(value)
        except InputError as error:
            raise ValueError(error.told) from None

    return BeforeValidator(given)


def read_neuron(text: str) -> str:
    """`3.17`, without zeros in front."""
    return str(NeuronId.parse(text))


def read_head(text: str) -> str:
    """`5.1` from `5.1` or `L5H1`."""
    return str(HeadId.parse(text))


def read_baseline(text: str) -> str | float:
    """A baseline's name, else a number."""
    return _name_or_number(text, BASELINES, "a baseline", "Write mean, prompt_mean, zero or a number.")


def read_scale(text: str) -> str | float:
    """The constant final LN scale: `median`, else a number."""
    return _name_or_number(text, ("median",), "a LN scale", "Write median or a number.")


def _name_or_number(text: str, names: tuple[str, ...], what: str, hint: str) -> str | float:
    if text in names:
        return text
    try:
        return read_number(text)
    except InputError:
        raise InputError(unread(text, what), hint=hint) from None


def read_where(text: str) -> list[int] | dict[str, int] | None:
    """Positions as a request has them."""
    positions = read_positions(text)
    if isinstance(positions, Span):
        return {"start": positions.start, "stop": positions.stop}
    return None if positions is None else list(positions)


def read_target(text: str) -> dict[str, str]:
    """`3.17` as a neuron, `L5H1` as a head."""
    return {"head": read_head(text)} if text.startswith("L") else {"neuron": read_neuron(text)}


def read_intervention(text: str) -> dict[str, Any]:
    """`3.17:mean`, `3.17:value=1.5`, `3.17:scale=0.5`, `3.17:clip=0..1`, `L3H2:bos`; `@2,5` or `@2-6` says where.

    Without a mode a neuron is set to its mean, a head reads position 0 alone. Whether the parts fit each other is for
    the request to say.
    """
    rest, at, where = text.partition("@")
    target, colon, what = rest.partition(":")
    mode, equals, argument = what.partition("=")
    try:
        body: dict[str, Any] = read_target(target)
        if colon and not mode.isidentifier():
            raise InputError(f"{mode[:20]!r} is no mode.")
        body["mode"] = mode if colon else "bos" if "head" in body else "mean"
        if mode == "clip":
            low, dots, high = argument.partition("..")
            if equals and not dots:
                raise InputError("clip wants one or two numbers, such as 0..1.")
            body |= {name: read_number(end) for name, end in (("min", low), ("max", high)) if end}
        elif equals:
            body["value"] = read_number(argument)
        if at:
            body["positions"] = read_where(where)
    except InputError as error:
        raise InputError(
            _because(text, "an intervention", error),
            code="invalid_intervention",
            hint="For example 3.17:mean, 3.20:zero@4-9, 3.5:value=1.5, 3.8:scale=0.5, 3.9:clip=0..2, L3H2:bos.",
        ) from None
    return body


def read_dial(text: str) -> dict[str, Any]:
    """`3.17:scale=2`, `3.17,3.20:value=1.5`, or `entropy:scale=0`: every neuron labelled so."""
    names, _, what = text.partition(":")
    mode, equals, argument = what.partition("=")
    try:
        if mode not in ("scale", "value") or not equals:
            raise InputError("it wants scale= or value=.")
        neurons = names if names == "entropy" else [read_neuron(name) for name in names.split(",")]
        return {"neurons": neurons, "mode": mode, "value": read_number(argument)}
    except InputError as error:
        raise InputError(
            _because(text, "a dial", error),
            code="invalid_dial",
            hint="For example 3.17:scale=2, 3.17,3.20:scale=-1, entropy:scale=0, 3.17:value=1.5.",
        ) from None


def _because(text: str, what: str, error: InputError) -> str:
    """Why a text is not `what`, with what was wrong in it."""
    told = unread(text, what, 60)
    return f"{told.removesuffix('.')}: {error.message}" if text.strip() else told


def read_turn(text: str) -> dict[str, str]:
    """`user: Hello`; what follows the colon and a space is said as it stands."""
    role, colon, content = text.partition(":")
    if role.strip() not in ROLES or not colon:
        raise InputError(
            unread(text, "a turn"), code="invalid_turn", hint=f"Begin it with {', '.join(ROLES)} and a colon."
        )
    return {"role": role.strip(), "content": content.removeprefix(" ")}


def without_paused(items: Any) -> Any:
    """A list of interventions without those that are paused (`!3.17:mean`), which must be readable too."""
    if not isinstance(items, list | tuple):
        return items
    if len(items) > MOST_NAMED:
        raise ValueError(f"{len(items)} were sent; at most {MOST_NAMED} are looked at")
    paused = [isinstance(item, str) and item.startswith("!") for item in items]
    for item in compress(items, paused):
        try:
            read_intervention(item.removeprefix("!"))
        except InputError as error:
            raise ValueError(error.told) from None
    return [item for item, is_paused in zip(items, paused, strict=True) if not is_paused]
