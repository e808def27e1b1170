"""What the commands `generate` and `dial` print."""

import math
import sys
from collections.abc import Iterable
from typing import Any

import click

from app.core.settings import no_colour
from app.core.shell.output import escaped, print_table

SHADES = ((0.5, None), (1.0, 229), (2.0, 221), (3.0, 214), (4.0, 208), (math.inf, 202))
"""Entropy in nats below which a token has that background, of the 256 colours of terminals, under black letters."""


def print_as_written(views: Iterable[dict[str, Any]]) -> None:
    """The text as it comes, shaded by entropy where a terminal shows it; then what `print_generate` tells of it."""
    coloured, entropy, whole = _coloured(), 0.0, dict[str, Any]()
    for whole in views:
        if whole["finish_reason"] is None:
            entropy = whole["tokens"][0]["entropy"] if whole["tokens"] else entropy
            text = _shaded(whole["text"], entropy) if coloured else _lines(whole["text"])
            click.echo(text, nl=False, color=coloured)
    click.echo()
    if coloured:
        click.echo(f"entropy in nats: {' '.join(map(_key, range(len(SHADES))))}", color=True)
    _tell(whole)


def _coloured() -> bool:
    return sys.stdout.isatty() and not no_colour()


def _shaded(text: str, entropy: float) -> str:
    shade = next(colour for below, colour in SHADES if entropy < below)
    if shade is None:
        return _lines(text)
    return "\n".join(f"\x1b[48;5;{shade};38;5;16m{part}\x1b[0m" if part else "" for part in _lines(text).split("\n"))


def _key(number: int) -> str:
    """One shade of the legend."""
    low, high = SHADES[number - 1][0] if number else 0.0, SHADES[number][0]
    return _shaded(f" {low:g}{'+' if math.isinf(high) else f'–{high:g}'} ", low)


def _lines(text: str) -> str:
    """Nothing in it can steer a terminal but the ends of its lines."""
    return "\n".join(map(escaped, text.split("\n")))


def print_generate(answer: dict[str, Any]) -> None:
    """The text, then a line a token, then how sure the model was over all of it."""
    click.echo(_lines(answer["text"]))
    _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    watched = list(answer["tokens"][0]["activations"]) if answer["tokens"] else []
    named = any(step["neurons"] for step in answer["tokens"])
    print_table(
        ["token", "prob.", "rank", "entropy", "LN scale", *watched, *(["neuron", "d_entropy"] if named else [])],
        (
            [f"{step['position']}:{escaped(step['text'])}", step["prob"], step["rank"], step["entropy"]]
            + [step["ln_scale"], *(step["activations"][name] for name in watched)]
            + ([step["neurons"][0]["neuron"], step["neurons"][0]["d_entropy"]["total"]] if step["neurons"] else [])
            for step in answer["tokens"]
        ),
    )
    n = len(answer["tokens"])
    click.echo(f"{n} token{'' if n == 1 else 's'}; ended by {answer['finish_reason']}")
    if sure := answer["confidence"]:
        click.echo(
            f"mean entropy {sure['mean_entropy']:.4f} nats; log-probability {sure['log_prob']:.4f} nats; "
            f"perplexity {sure['perplexity']:.5g}; first choice {sure['first_choices']:.0%}; "
            f"least sure at {sure['least']}: {sure['least_prob']:.5f}"
        )


def print_dial(answer: dict[str, Any]) -> None:
    """The means of every arm, then the text of the first seed."""
    numbers = list(answer["arms"][0]["means"])
    print_table(
        ["", "turned", *numbers, "matched", "of"],
        (
            [
                arm["name"],
                _turned(arm),
                *(arm["means"][name]["mean"] for name in numbers),
                arm["reached"],
                arm["wanted"],
            ]
            for arm in answer["arms"]
        ),
    )
    for arm in answer["arms"]:
        click.echo(f"\n{arm['name']}:\n{escaped(arm['texts'][0]['text'])}")
    click.echo(f"\nmeans over {answer['seeds']} seed{'s' if answer['seeds'] > 1 else ''}; the texts are the first's")


def _turned(arm: dict[str, Any]) -> str:
    """By what a twin is matched: its temperature, or the random neurons of the first text and their factor."""
    if arm["kind"] == "temperature":
        return f"T = {arm['temperature']:.4g}"
    text = arm["texts"][0]
    if arm["kind"] != "neurons" or not text["neurons"]:
        return ""
    left = len(text["neurons"]) - 3
    more = f" and {left} more" if left > 0 else ""
    return f"{', '.join(text['neurons'][:3])}{more} × {text['factor']:.4g}"
