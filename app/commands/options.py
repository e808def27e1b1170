"""Options that several commands have, and how interventions are written."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from app.commands.door import Refused

Command = TypeVar("Command", bound=Callable[..., Any])

_INTERVENTION = re.compile(
    r"(?:(?P<neuron>\d+\.\d+)|L(?P<layer>\d+)H(?P<head>\d+))"
    r"(?::(?P<mode>mean|zero|value|scale|clip|bos)(?:=(?P<argument>[^@]+))?)?(?:@(?P<where>[\d,-]+))?"
)


def model_options(function: Command) -> Command:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table."),
        click.option("--url", help="Ask a running server instead of loading the model here."),
        click.option("--model", help="Key or folder of the model; the server's first by default."),
    ):
        function = option(function)
    return function


def baseline_option(function: Command) -> Command:
    return click.option(
        "--baseline",
        default="mean",
        show_default=True,
        help="mean, prompt_mean, zero or a number.",
        callback=lambda context, option, text: number_or_name(text),
    )(function)


def ln_option(function: Command) -> Command:
    return click.option(
        "--ln-scale",
        help="Switch LayerNorm off: hold its scale at this number, or at the prompt's 'median'.",
        callback=lambda context, option, text: text and number_or_name(text),
    )(function)


def number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def intervention_body(text: str) -> dict[str, Any]:
    """`3.17:mean`, `3.17:value=1.5`, `3.17:scale=0.5`, `3.17:clip=0..1`, `L3H2:bos`; `@2,5` or `@2-6` says where."""
    found = _INTERVENTION.fullmatch(text)
    if found is None:
        raise Refused(f"{text[:60]!r} is not an intervention. Write 3.17:zero, 3.17:clip=0..1@2-6 or L3H2:bos.")
    on_head = found["head"] is not None
    mode, argument, where = found["mode"] or ("bos" if on_head else "mean"), found["argument"], found["where"]
    target = {"head": f"{found['layer']}.{found['head']}"} if on_head else {"neuron": found["neuron"]}
    body: dict[str, Any] = {**target, "mode": mode}
    try:
        if mode == "clip":
            low, dots, high = (argument or "").partition("..")
            if not dots:
                raise ValueError
            body |= {name: float(value) for name, value in (("min", low), ("max", high)) if value}
        elif argument is not None:
            body["value"] = float(argument)
        if where is not None:
            body["positions"] = _where(where)
    except ValueError:
        raise Refused(f"{text[:60]!r} holds something that is not a number.") from None
    return body


def _where(text: str) -> list[int] | dict[str, int]:
    """`2-6` (inclusive, as on the page), `2,5`, or both: `2,5-7`."""
    ranges = [(int(first), int(last or first)) for first, _, last in (part.partition("-") for part in text.split(","))]
    if len(ranges) == 1 and "-" in text:
        return {"start": ranges[0][0], "stop": ranges[0][1] + 1}
    return [position for first, last in ranges for position in range(first, last + 1)]
