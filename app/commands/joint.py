"""nullscope joint: a set of neurons ablated together, beside each of them alone."""

from typing import Any

import click

from app.commands.options import baseline_option, ln_option
from app.commands.output import print_table
from app.commands.prompt import Prompt, prompt_options

PARTS = ("total", "direct", "ln_mediated", "frequency_mediated")
METRICS = ("d_entropy", "d_loss", "d_kl_unigram")


@click.command("joint")
@prompt_options
@click.option("--neuron", "-n", "neurons", multiple=True, required=True, metavar="L.I", help="One of the set.")
@click.option("--position", "-p", type=int, help="Position to ablate and measure at; the last by default.")
@baseline_option
@ln_option
def command(prompt: Prompt, neurons: tuple[str, ...], **rest: Any) -> None:
    """Ablate a set of last-layer neurons together at one token of TEXT, exactly; changes in nats."""
    prompt.ask("joint", print_joint, neurons=list(neurons), **rest)


def print_joint(answer: dict[str, Any]) -> None:
    rows = [(row["neuron"], row) for row in answer["rows"]]
    rows += [
        (name, answer[key]) for name, key in (("sum", "sum"), ("together", "joint"), ("interaction", "interaction"))
    ]
    print_table(
        ["", *(f"{metric} {part}" for metric in METRICS for part in PARTS)],
        ([name, *(row[metric][part] for metric in METRICS for part in PARTS)] for name, row in rows),
    )
    clean = answer["clean"]
    click.echo(
        f"position {clean['position']}; LN scale {clean['ln_scale']:.5g} -> {answer['ln_scale_after']:.5g}; "
        f"KL(P||P') {answer['kl']:.5g} nats; top token {'changes' if answer['top1_changes'] else 'stays'}; "
        f"baseline: {answer['provenance']['baseline']}"
    )
