"""nullscope heatmap: every last-layer neuron ablated by itself at every token."""

from typing import Any

import click

from app.commands.options import baseline_option, ln_option
from app.commands.output import print_table
from app.commands.prompt import Prompt, prompt_options


@click.command("heatmap")
@prompt_options
@click.option("--metric", default="d_entropy", show_default=True, help="d_entropy, d_loss, d_kl_unigram or kl.")
@click.option("--part", default="total", show_default=True, help="total, direct, ln_mediated, ln_only, ...")
@baseline_option
@click.option("--neuron", "-n", "neurons", multiple=True, metavar="L.I", help="Only this neuron; repeatable.")
@click.option("--sort", default="max_abs", show_default=True, help="max_abs, mean_abs, mean or neuron.")
@click.option("--limit", default=16, show_default=True, help="Rows shown.")
@ln_option
def command(prompt: Prompt, neurons: tuple[str, ...], **rest: Any) -> None:
    """Every token of TEXT (- for standard input) by every last-layer neuron; changes in nats."""
    prompt.ask("heatmap", print_heatmap, neurons=list(neurons) or "all", **rest)


def print_heatmap(answer: dict[str, Any]) -> None:
    tokens = [f"{token['position']}:{token['text']}" for token in answer["tokens"]]
    print_table(
        ["neuron", "max |.|", "mean", *tokens],
        ([row["neuron"], row["max_abs"], row["mean"], *row["values"]] for row in answer["rows"]),
    )
    click.echo(
        f"{answer['metric']}, {answer['part']}: {len(answer['rows'])} of {answer['total']} neurons; "
        f"baseline: {answer['provenance']['baseline']}"
    )
