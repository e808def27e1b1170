"""nullscope joint: a set of neurons ablated together, beside each of them alone."""

import click

from app.commands.door import opened
from app.commands.options import ln_option, number_or_name, prompt_body, prompt_options
from app.commands.output import print_json, print_table

PARTS = ("total", "direct", "ln_mediated", "frequency_mediated")
METRICS = ("d_entropy", "d_loss", "d_kl_unigram")


@click.command("joint")
@prompt_options
@click.option("--neuron", "-n", "neurons", multiple=True, required=True, metavar="L.I", help="One of the set.")
@click.option("--position", "-p", type=int, help="Position to ablate and measure at; the last by default.")
@click.option("--baseline", default="mean", show_default=True, help="mean, prompt_mean, zero or a number.")
@ln_option
def command(
    text: str | None,
    token_ids: str | None,
    prepend_bos: bool | None,
    model: str | None,
    url: str | None,
    as_json: bool,
    neurons: tuple[str, ...],
    position: int | None,
    baseline: str,
    ln_scale: float | str | None,
) -> None:
    """Ablate a set of last-layer neurons together at one token of TEXT, exactly; changes in nats."""
    body = {
        **prompt_body(text, token_ids, prepend_bos),
        "neurons": list(neurons),
        "position": position,
        "baseline": number_or_name(baseline),
        "ln_scale": ln_scale,
    }
    with opened(model, url) as door:
        answer = door.model("joint", body)
    if as_json:
        print_json(answer)
        return
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
