"""nullscope heatmap: every last-layer neuron ablated by itself at every token."""

from typing import Any

import click

from app.commands.door import opened
from app.commands.options import ln_option, number_or_name, prompt_body, prompt_options
from app.commands.output import print_json, print_table


@click.command("heatmap")
@prompt_options
@click.option("--metric", default="d_entropy", show_default=True, help="d_entropy, d_loss, d_kl_unigram or kl.")
@click.option("--part", default="total", show_default=True, help="total, direct, ln_mediated, ln_only, ...")
@click.option("--baseline", default="mean", show_default=True, help="mean, prompt_mean, zero or a number.")
@click.option("--neuron", "-n", "neurons", multiple=True, metavar="L.I", help="Only this neuron; repeatable.")
@click.option("--sort", default="max_abs", show_default=True, help="max_abs, mean_abs, mean or neuron.")
@click.option("--limit", default=16, show_default=True, help="Rows shown.")
@ln_option
def command(
    text: str | None,
    token_ids: str | None,
    prepend_bos: bool | None,
    model: str | None,
    url: str | None,
    as_json: bool,
    baseline: str,
    neurons: tuple[str, ...],
    ln_scale: float | str | None,
    **table: Any,
) -> None:
    """Every token of TEXT (- for standard input) by every last-layer neuron; changes in nats."""
    body = {
        **prompt_body(text, token_ids, prepend_bos),
        "baseline": number_or_name(baseline),
        "neurons": list(neurons) or "all",
        "ln_scale": ln_scale,
        **table,
    }
    with opened(model, url) as door:
        answer = door.model("heatmap", body)
    if as_json:
        print_json(answer)
        return
    tokens = [f"{token['position']}:{token['text']}" for token in answer["tokens"]]
    print_table(
        ["neuron", "max |.|", "mean", *tokens],
        ([row["neuron"], row["max_abs"], row["mean"], *row["values"]] for row in answer["rows"]),
    )
    click.echo(
        f"{answer['metric']}, {answer['part']}: {len(answer['rows'])} of {answer['total']} neurons; "
        f"baseline: {answer['provenance']['baseline']}"
    )
