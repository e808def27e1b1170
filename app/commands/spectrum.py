"""nullscope spectrum: the singular values of the unembedding and the effective null space."""

from typing import Any

import click

from app.commands.door import opened
from app.commands.options import model_options
from app.commands.output import print_json, print_table
from app.commands.tables import query_string


@click.command("spectrum")
@model_options
@click.option("--k", type=int, help="Dimension of the null space; the knee's by default.")
@click.option("--uncentred", is_flag=True, help="W_U without centring over the vocabulary.")
def command(model: str | None, url: str | None, as_json: bool, k: int | None, uncentred: bool) -> None:
    """The tail of the spectrum of W_U, its knee, and rho of every layer's neurons."""
    query = query_string({"k": k, "vocab_centred": str(not uncentred).lower()})
    with opened(model, url) as door:
        answer = door.get(f"/models/{door.quoted}/spectrum{query}")
    if as_json:
        print_json(answer)
    else:
        print_spectrum(answer)


def print_spectrum(answer: dict[str, Any]) -> None:
    values = answer["singular_values"]
    first = max(0, len(values) - max(answer["k"] + 5, 12))
    print_table(["index", "singular value"], [[i, values[i]] for i in range(first, len(values))])
    knee = "no knee" if answer["knee"] is None else f"knee at {answer['knee']} (falls {answer['knee_ratio']:.3g}-fold)"
    chance = answer["chance"]
    click.echo(
        f"\n{knee}; k = {answer['k']} of {answer['d_model']}; "
        f"chance rho {chance['rms']:.3g}, largest {chance['maximum']:.3g}\n"
    )
    columns = ["median", "q75", "q99", "max"]
    print_table(
        ["layer", *columns],
        [[layer, *(found[name] for name in columns)] for layer, found in answer["rho_quantiles"].items()],
    )
