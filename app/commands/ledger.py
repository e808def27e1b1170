"""nullscope ledger: what the final LN scale at one token is made of."""

import click

from app.commands.door import opened
from app.commands.options import prompt_body, prompt_options
from app.commands.output import print_json, print_table


@click.command("ledger")
@prompt_options
@click.option("--position", "-p", type=int, help="The token; the last by default.")
@click.option("--k", type=int, help="Dimension of the null space; by default at the knee of the spectrum.")
@click.option("--limit", default=10, show_default=True, help="Last-layer neurons listed.")
def command(
    text: str | None,
    token_ids: str | None,
    prepend_bos: bool | None,
    model: str | None,
    url: str | None,
    as_json: bool,
    position: int | None,
    k: int | None,
    limit: int,
) -> None:
    """Split the squared LN scale at one token of TEXT over embedding, heads, MLPs, biases; null and row space."""
    body = {**prompt_body(text, token_ids, prepend_bos), "position": position, "k": k, "limit": limit}
    with opened(model, url) as door:
        answer = door.model("ledger", body)
    if as_json:
        print_json(answer)
        return
    total = answer["total"]
    rows = [*answer["rows"], *answer["neurons"]]
    print_table(
        ["component", "kind", "share of s2", "null space", "row space", "% of s2"],
        ([r["component"], r["kind"], r["share"], r["null"], r["row"], 100 * r["share"] / total] for r in rows),
    )
    click.echo(
        f"position {answer['clean']['position']}: s2 = {total:.6g} = rows + eps {answer['eps']:.3g} "
        f"(rounding {answer['remainder']:.1e}); null space of dimension {answer['k']}: {answer['null_total']:.5g}"
    )
