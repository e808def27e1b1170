"""nullscope neurons: every MLP neuron by its weights."""

from typing import Any

import click

from app.commands.door import opened
from app.commands.effects import bounds
from app.commands.options import model_options
from app.commands.output import print_json, print_table
from app.commands.tables import query_string, write_rows

NUMBERS = ("norm", "logit_var", "norm_over_logit_var", "rho", "frequency_alignment", "kurtosis", "skew", "cos_in_out")


@click.command("neurons")
@model_options
@click.option("--layer", type=int, help="Only this layer; every layer by default.")
@click.option("--k", type=int, help="Dimension of the null space; the knee's by default.")
@click.option(
    "--label", help="Only neurons with this label: entropy, token-frequency, prediction, suppression, partition."
)
@click.option("--sort", default="norm_over_logit_var", show_default=True)
@click.option("--order", type=click.Choice(["abs_desc", "desc", "asc"]), default="desc", show_default=True)
@click.option("--offset", default=0, show_default=True)
@click.option("--limit", default=20, show_default=True)
@click.option("--min", "minima", multiple=True, metavar="COLUMN=X", help="Keep rows with at least X; repeatable.")
@click.option("--max", "maxima", multiple=True, metavar="COLUMN=X", help="Keep rows with at most X; repeatable.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write all rows to this .csv or .parquet file.")
def command(
    model: str | None,
    url: str | None,
    as_json: bool,
    minima: tuple[str, ...],
    maxima: tuple[str, ...],
    out: str | None,
    **query: Any,
) -> None:
    """List neurons by their weights: norm, LogitVar, rho, alignment with token frequency, labels."""
    asked = {**query, **bounds("min", minima), **bounds("max", maxima)}
    with opened(model, url) as door:
        if out:
            rows = every_row(door, asked)
            write_rows(out, rows)
            click.echo(f"{len(rows)} neurons written to {out}")
            return
        answer = door.get(f"/models/{door.quoted}/neurons{query_string(asked)}")
    if as_json:
        print_json(answer)
    else:
        print_neurons(answer)


def every_row(door: Any, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """All pages of the answer, flat."""
    from app.views.atlas import NeuronsView, neuron_rows

    rows: list[dict[str, Any]] = []
    while True:
        page = asked | {"offset": len(rows), "limit": 1000}
        view = NeuronsView.model_validate(door.get(f"/models/{door.quoted}/neurons{query_string(page)}"))
        rows += neuron_rows(view)
        if not view.rows or len(rows) >= view.total:
            return rows


def print_neurons(answer: dict[str, Any]) -> None:
    rows = [
        [
            row["neuron"],
            *(row[name] for name in NUMBERS),
            " ".join(label["name"] for label in row["labels"] if label["holds"]),
            " ".join(token["text"] for token in row["raised"][:3]),
        ]
        for row in answer["rows"]
    ]
    print_table(["neuron", *NUMBERS, "labels", "raises"], rows)
    source = answer["provenance"]
    click.echo(
        f"{len(answer['rows'])} of {answer['total']} neurons of {source['model']}; k = {answer['k']}, "
        f"largest rho by chance {answer['chance']['maximum']:.3g}; labels rest on weights unless a sweep is named"
    )
