"""nullscope dose: a neuron or set clamped to one activation after another."""

from typing import Any

import click

from app.commands.options import ln_option
from app.commands.output import print_table
from app.commands.prompt import Prompt, prompt_options

COLUMNS = ("dose", "entropy", "frozen_entropy", "loss", "frozen_loss", "ln_scale", "top1_prob")


@click.command("dose")
@prompt_options
@click.option("--neuron", "-n", "neurons", multiple=True, required=True, metavar="L.I", help="One of the set.")
@click.option("--position", "-p", type=int, help="Position to clamp and measure at; the last by default.")
@click.option("--low", type=float, help="First dose; by default the lowest activation in the prompt.")
@click.option("--high", type=float, help="Last dose; by default the highest.")
@click.option("--steps", default=11, show_default=True)
@ln_option
def command(prompt: Prompt, neurons: tuple[str, ...], **rest: Any) -> None:
    """Clamp last-layer neurons at one token of TEXT; nats. frozen: with the LN scale at its clean value."""
    prompt.ask("dose", print_dose, neurons=list(neurons), **rest)


def print_dose(answer: dict[str, Any]) -> None:
    print_table([*COLUMNS, "top token"], ([*(row[c] for c in COLUMNS), row["top1"]["text"]] for row in answer["rows"]))
    for neuron in answer["neurons"]:
        click.echo(f"{neuron['neuron']}: {neuron['activation']:.5g} here, {neuron['low']:.5g} to {neuron['high']:.5g}")
