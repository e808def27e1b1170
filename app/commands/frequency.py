"""nullscope frequency: token counts and the neurons that write along them."""

from typing import Any

import click

from app.commands.door import opened
from app.commands.options import model_options
from app.commands.output import print_json, print_table


@click.command("frequency")
@model_options
def command(model: str | None, url: str | None, as_json: bool) -> None:
    """The unigram distribution, alignment by layer, and softmax(b_U) against the counts."""
    with opened(model, url) as door:
        answer = door.get(f"/models/{door.quoted}/frequency")
    if as_json:
        print_json(answer)
    else:
        print_frequency(answer)


def print_frequency(answer: dict[str, Any]) -> None:
    if answer["source"] is None:
        click.echo(
            "No token counts. Count a text with `nullscope count`, or give a file to `nullscope serve --counts`."
        )
    else:
        click.echo(f"{answer['n_counted']} tokens counted ({answer['source']}), entropy {answer['entropy']:.5g} nats")
        for name, value in answer["b_U"].items():
            click.echo(f"  softmax(b_U) {name}: " + ("-" if value is None else f"{value:.5g}"))
    columns = ["min", "median", "q99", "max"]
    rows = [[layer, *(found[name] for name in columns)] for layer, found in answer["alignment_quantiles"].items()]
    print_table(["layer", *columns], rows)
