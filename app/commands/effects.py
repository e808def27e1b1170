"""nullscope effects: every last-layer neuron ablated at one token."""

from typing import Any

import click

from app.commands.options import baseline_option, ln_option, number_or_name
from app.commands.output import print_table
from app.commands.prompt import Prompt, prompt_options

COLUMNS = {
    "neuron": ("neuron",),
    "activation": ("activation",),
    "baseline": ("baseline",),
    "d_entropy": ("d_entropy", "total"),
    "direct": ("d_entropy", "direct"),
    "LN": ("d_entropy", "ln_mediated"),
    "frequency": ("d_entropy", "frequency_mediated"),
    "d_loss": ("d_loss", "total"),
    "d_kl_unigram": ("d_kl_unigram", "total"),
    "ln_scale": ("ln_scale_before",),
    "after": ("ln_scale_after",),
    "top1 changes": ("top1_changes",),
    "temperature": ("temperature",),
    "share": ("temperature_share",),
    "KL": ("kl",),
    "KL left": ("temperature_kl",),
}


@click.command("effects")
@prompt_options
@click.option("--position", "-p", type=int, help="Position to ablate and measure at; the last by default.")
@baseline_option
@click.option("--neuron", "-n", "neurons", multiple=True, metavar="L.I", help="Only this neuron; repeatable.")
@click.option("--sort", default="d_entropy.total", show_default=True, help="A column, e.g. d_loss.ln_mediated.")
@click.option("--order", type=click.Choice(["abs_desc", "desc", "asc"]), default="abs_desc", show_default=True)
@click.option("--offset", default=0, show_default=True)
@click.option("--limit", default=20, show_default=True)
@click.option("--min", "minima", multiple=True, metavar="COLUMN=X", help="Keep rows with at least X; repeatable.")
@click.option("--max", "maxima", multiple=True, metavar="COLUMN=X", help="Keep rows with at most X; repeatable.")
@ln_option
def command(
    prompt: Prompt, neurons: tuple[str, ...], minima: tuple[str, ...], maxima: tuple[str, ...], **rest: Any
) -> None:
    """Ablate every last-layer neuron at one token of TEXT (- for standard input), exactly; changes in nats."""
    limits = bounds("min", minima) | bounds("max", maxima)
    prompt.ask("effects", print_effects, neurons=list(neurons) or "all", **rest, **limits)


def bounds(end: str, specs: tuple[str, ...]) -> dict[str, Any]:
    return {f"{end}_{name}": number_or_name(value) for name, _, value in (spec.partition("=") for spec in specs)}


def print_effects(answer: dict[str, Any]) -> None:
    print_table(list(COLUMNS), ([_value(row, path) for path in COLUMNS.values()] for row in answer["rows"]))
    clean, source = answer["clean"], answer["provenance"]
    click.echo(
        f"{len(answer['rows'])} of {answer['total']} neurons at position {clean['position']} "
        f"({clean['token']['text']!r}); clean entropy {clean['entropy']:.5g} nats; baseline: {source['baseline']}"
    )


def _value(row: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = row
    for name in path:
        found = found[name]
    return found
