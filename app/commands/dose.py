"""nullscope dose: a neuron or set clamped to one activation after another."""

import click

from app.commands.door import opened
from app.commands.options import ln_option, prompt_body, prompt_options
from app.commands.output import print_json, print_table

COLUMNS = ("dose", "entropy", "frozen_entropy", "loss", "frozen_loss", "ln_scale", "top1_prob")


@click.command("dose")
@prompt_options
@click.option("--neuron", "-n", "neurons", multiple=True, required=True, metavar="L.I", help="One of the set.")
@click.option("--position", "-p", type=int, help="Position to clamp and measure at; the last by default.")
@click.option("--low", type=float, help="First dose; by default the lowest activation in the prompt.")
@click.option("--high", type=float, help="Last dose; by default the highest.")
@click.option("--steps", default=11, show_default=True)
@ln_option
def command(
    text: str | None,
    token_ids: str | None,
    prepend_bos: bool | None,
    model: str | None,
    url: str | None,
    as_json: bool,
    neurons: tuple[str, ...],
    position: int | None,
    low: float | None,
    high: float | None,
    steps: int,
    ln_scale: float | str | None,
) -> None:
    """Clamp last-layer neurons at one token of TEXT; nats. frozen: with the LN scale at its clean value."""
    body = {
        **prompt_body(text, token_ids, prepend_bos),
        "neurons": list(neurons),
        "position": position,
        "low": low,
        "high": high,
        "steps": steps,
        "ln_scale": ln_scale,
    }
    with opened(model, url) as door:
        answer = door.model("dose", body)
    if as_json:
        print_json(answer)
        return
    print_table([*COLUMNS, "top token"], ([*(row[c] for c in COLUMNS), row["top1"]["text"]] for row in answer["rows"]))
    for neuron in answer["neurons"]:
        click.echo(f"{neuron['neuron']}: {neuron['activation']:.5g} here, {neuron['low']:.5g} to {neuron['high']:.5g}")
