"""nullscope trace: a prompt, token by token."""

from typing import Any

import click

from app.commands.options import intervention_body, ln_option
from app.commands.output import print_table
from app.commands.prompt import Prompt, prompt_options


@click.command("trace")
@prompt_options
@click.option("--intervene", "-i", multiple=True, metavar="SPEC", help="3.17:zero, 3.17:clip=0..1@2-6, L3H2:bos.")
@click.option("--neuron", "-n", "neurons", multiple=True, metavar="L.I", help="Show its activation; repeatable.")
@click.option("--top-k", default=3, show_default=True, help="Next tokens to list at each position.")
@ln_option
def command(prompt: Prompt, intervene: tuple[str, ...], neurons: tuple[str, ...], **rest: Any) -> None:
    """Run TEXT (- for standard input): entropy, loss, LN scale, KL to the unigram distribution, in nats."""
    interventions = [intervention_body(spec) for spec in intervene]
    prompt.ask("trace", print_trace, interventions=interventions, neurons=list(neurons), **rest)


def print_trace(answer: dict[str, Any]) -> None:
    from app.visible import visible

    clean, changed = answer["clean"], answer["intervened"]
    columns = ["pos", "token", "entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank"]
    columns += [*clean["activations"], *(["d_entropy", "d_loss"] if changed else []), "next tokens"]
    rows = []
    for t, token in enumerate(answer["tokens"]):
        row = [t, visible(token["text"]), *(at(clean[name], t) for name in columns[2:8])]
        row += [values[t] for values in clean["activations"].values()]
        if changed:
            row += [difference(changed[name][t], clean[name][t]) for name in ("entropy", "loss")]
        rows.append([*row, " ".join(f"{visible(item['text'])} {item['prob']:.3f}" for item in clean["top"][t])])
    print_table(columns, rows)
    source = answer["provenance"]
    baseline = f"; mean: {source['baseline']}" if source["baseline"] else ""
    weights = f"{source['model']} {source['weights_sha256'][:12]}"
    click.echo(f"{weights} {source['dtype']} on {source['device']}; nats{baseline}")


def at(values: list[Any] | None, position: int) -> Any:
    return None if values is None else values[position]


def difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
