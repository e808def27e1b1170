"""nullscope neuron: one neuron by its weights."""

from typing import Any

import click

from app.commands.door import opened
from app.commands.options import model_options
from app.commands.output import print_json, print_table
from app.commands.tables import query_string


@click.command("neuron")
@click.argument("neuron")
@click.option("--k", type=int, help="Dimension of the null space; the knee's by default.")
@model_options
def command(neuron: str, model: str | None, url: str | None, as_json: bool, k: int | None) -> None:
    """What the weights say about NEURON (layer.index): statistics, labels, direct logit effect, neighbours."""
    with opened(model, url) as door:
        answer = door.get(f"/models/{door.quoted}/neurons/{neuron}{query_string({'k': k})}")
    if as_json:
        print_json(answer)
    else:
        print_neuron(answer)


def print_neuron(answer: dict[str, Any]) -> None:
    weights = answer["weights"]
    shares = answer["percentiles"]
    rows = [
        [name, weights[name], None if shares[name] is None else 100 * shares[name]]
        for name in shares
        if weights.get(name) is not None
    ]
    print_table(["column", "value", "% of the layer below"], rows)
    for label in weights["labels"]:
        click.echo(f"\n{label['name']}: {'holds' if label['holds'] else 'does not hold'} ({label['basis']})")
        for condition in label["conditions"]:
            mark = {True: "+", False: "-", None: "?"}[condition["holds"]]
            click.echo(
                f"  {mark} {condition['text']}" + ("" if condition["value"] is None else f": {condition['value']:.5g}")
            )
    pairs = zip(answer["raised"], answer["lowered"], strict=True)
    click.echo()
    print_table(
        ["raises", "logit", "lowers", "logit"],
        [[a["text"], a["effect"], b["text"], b["effect"]] for a, b in list(pairs)[:10]],
    )
    near = ", ".join(f"{other['neuron']} {other['cosine']:.2f}" for other in answer["nearest_out"][:5])
    click.echo(f"\nnearest by write direction: {near}")
