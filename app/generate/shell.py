"""What the command `generate` prints."""

from typing import Any

import click

from app.core.shell.output import escaped, print_table


def print_generate(answer: dict[str, Any]) -> None:
    """A line a token, then the text."""
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
    click.echo(escaped(answer["text"]))
    click.echo(f"{len(answer['tokens'])} tokens; ended by {answer['finish_reason']}")


def print_dial(answer: dict[str, Any]) -> None:
    """The means of every arm, then the text of the first seed."""
    numbers = list(answer["arms"][0]["means"])
    print_table(
        ["", *numbers, "matched", "of"],
        (
            [arm["name"], *(arm["means"][name]["mean"] for name in numbers), arm["reached"], arm["wanted"]]
            for arm in answer["arms"]
        ),
    )
    for arm in answer["arms"]:
        click.echo(f"\n{arm['name']}:\n{escaped(arm['texts'][0]['text'])}")
    click.echo(f"\nmeans over {answer['seeds']} seed{'s' if answer['seeds'] > 1 else ''}; the texts are the first's")
