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
