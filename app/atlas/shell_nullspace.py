"""nullscope nullspace: what lives in the effective null space of the unembedding."""

from typing import Any

import click

from app.core.shell.options import model_options
from app.core.shell.output import cell, print_json, print_table
from app.core.shell.session import opened
from app.core.shell.tables import query_string


@click.command("nullspace")
@model_options
@click.option("--k", type=int, help="Its dimension; the knee's by default.")
@click.option("--layer", type=int, help="Whose neurons are listed; the last layer's by default.")
@click.option("--uncentred", is_flag=True, help="W_U without centring over the vocabulary.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(0), help="Neurons listed.")
def command(model: str | None, url: str | None, as_json: bool, uncentred: bool, limit: int, **query: Any) -> None:
    """How much of what neurons, heads and embeddings write lies in the null space."""
    with opened(model, url) as door:
        asked = query_string({**query, "vocab_centred": str(not uncentred).lower()})
        answer = door.get(f"/models/{door.quoted}/nullspace{asked}")
    if as_json:
        print_json(answer)
    else:
        print_shares(answer, limit)


def print_shares(answer: dict[str, Any], limit: int) -> None:
    rho, layer = answer["rho"], answer["layer"]
    order = sorted(range(len(rho)), key=lambda index: -(rho[index] or 0.0))
    print_table(["neuron", "rho"], [[f"{layer}.{index}", rho[index]] for index in order[:limit]])
    click.echo("rho is a ratio of lengths; shares are of squared lengths: rho 0.96 is a share of 92 %")
    click.echo(
        f"k = {answer['k']}; {answer['neurons_above']} of {len(rho)} neurons of layer {layer} are above "
        f"{cell(answer['chance']['maximum'])}, the largest rho by chance\n{answer['null_space']['says']}\n"
    )
    print_table(
        ["writes of", "share of their squared length in the null space"],
        [list(each) for each in answer["embeddings"].items()],
    )
    click.echo()
    heads = answer["heads"]
    print_table(
        ["layer", *(f"head {index}" for index in range(max(map(len, heads))))],
        [[number, *shares] for number, shares in enumerate(heads)],
    )
