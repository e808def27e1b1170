"""nullscope ledger: what the final LN scale at one token is made of."""

from typing import Any

import click

from app.commands.output import print_table
from app.commands.prompt import Prompt, prompt_options


@click.command("ledger")
@prompt_options
@click.option("--position", "-p", type=int, help="The token; the last by default.")
@click.option("--k", type=int, help="Dimension of the null space; by default at the knee of the spectrum.")
@click.option("--limit", default=10, show_default=True, help="Last-layer neurons listed.")
def command(prompt: Prompt, **rest: Any) -> None:
    """Split the squared LN scale at one token of TEXT over embedding, heads, MLPs, biases; null and row space."""
    prompt.ask("ledger", print_ledger, **rest)


def print_ledger(answer: dict[str, Any]) -> None:
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
