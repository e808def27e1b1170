"""nullscope compare: two models, or two moments of one training, by their last layers."""

import re
from typing import Any

import click

from app.core.shell.output import print_json, print_table
from app.core.shell.session import Refused, opened
from app.core.shell.tables import query_string


@click.command("compare")
@click.argument("first")
@click.argument("second")
@click.option("--url", help="Ask a running server instead of loading the models here.")
@click.option("--k", type=int, help="Dimension of the null space; the knee's by default.")
@click.option("--training", is_flag=True, help="The entropy neurons of FIRST's model through its checkpoints, too.")
@click.option("--json", "as_json", is_flag=True, help="The API's JSON instead of a table.")
def command(first: str, second: str, url: str | None, as_json: bool, k: int | None, training: bool) -> None:
    """FIRST beside SECOND: each a model (key or folder), or MODEL@TOKENS for a checkpoint of its training."""
    names, tokens = zip(*(_parts(side) for side in (first, second)), strict=True)
    with opened(list(dict.fromkeys(names)), url) as door:
        keys = dict(zip(dict.fromkeys(names), door.keys, strict=True))
        a, b = (keys[name] + at for name, at in zip(names, tokens, strict=True))
        query = query_string({"a": a, "b": b, "k": k, "training": str(training).lower()})
        answer = door.get(f"/compare{query}")
    if as_json:
        print_json(answer)
    else:
        print_compare(answer)


def _parts(side: str) -> tuple[str, str]:
    """(model, `@tokens` or nothing)."""
    name, at, tokens = side.rpartition("@")
    if not at or "/" in tokens:  # the @ of a folder's name
        return side, ""
    if not name or not re.fullmatch("[0-9]{1,15}", tokens):
        raise Refused(f"{side[:60]!r} is not a side. Write a model, or MODEL@TOKENS such as demo@1998848.")
    return name, at + tokens


def print_compare(answer: dict[str, Any]) -> None:
    sides = answer["sides"]
    print_table(
        ["", *(side["name"] for side in sides)],
        [
            ["layers", *(side["n_layers"] for side in sides)],
            ["d_model", *(side["d_model"] for side in sides)],
            ["knee", *(_knee(side) for side in sides)],
            ["exactly null", *(side["null_space"]["exact"] for side in sides)],
            ["of them built in", *(side["null_space"]["built_in"] for side in sides)],
            ["k", *(side["k"] for side in sides)],
            ["smallest singular value outside it", *(_singular(side, -1) for side in sides)],
            ["largest inside", *(_singular(side, 0) for side in sides)],
            ["largest rho, last layer", *(max(filter(None, side["rho"]), default=None) for side in sides)],
            ["largest rho by chance", *(side["chance"] for side in sides)],
            ["neurons above chance", *(_above(side) for side in sides)],
        ],
    )
    if (training := answer["training"]) is not None:
        print_training(training)


def print_training(training: dict[str, Any]) -> None:
    neurons = training["neurons"]
    click.echo(f"\nnorm / median, rho (k = {training['k']}) of the finished model's entropy neurons")
    print_table(
        ["tokens", "knee", "above chance", *(f"{name} {what}" for name in neurons for what in ("norm", "rho"))],
        [
            [
                "finished" if moment["tokens"] is None else moment["tokens"],
                _knee(moment),
                moment["above_chance"],
                *(moment[column][name] for name in neurons for column in ("norm_over_median", "rho")),
            ]
            for moment in training["moments"]
        ],
    )
    if training["untrained"] is not None:
        click.echo(training["untrained"])


def _knee(found: dict[str, Any]) -> str | int | None:
    knee: int | None = found["knee"]
    return f"{knee} (weak)" if found["null_space"]["weak"] else knee


def _singular(side: dict[str, Any], place: int) -> float | None:
    """Of the direction at that place, counted from the first one in the null space."""
    values: list[float] = side["singular_values"]
    index = side["d_model"] - side["k"] + place
    return values[index] if 0 <= index < len(values) else None


def _above(side: dict[str, Any]) -> int:
    return sum(value is not None and value > side["chance"] for value in side["rho"])
