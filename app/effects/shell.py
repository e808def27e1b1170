"""What the commands on effects print."""

from typing import Any

import click

from app.core.shell.output import escaped, print_rows, print_table
from app.core.view import EffectRow


def print_effects(answer: dict[str, Any]) -> None:
    print_rows(EffectRow, answer["rows"])
    clean, source = answer["clean"], answer["provenance"]
    click.echo(
        f"{len(answer['rows'])} of {answer['total']} neurons at position {clean['position']} "
        f"({clean['token']['text']!r}); clean entropy {clean['entropy']:.5g} nats; baseline: {source['baseline']}"
    )


def print_heatmap(answer: dict[str, Any]) -> None:
    tokens = [f"{token['position']}:{token['text']}" for token in answer["tokens"]]
    print_table(
        ["neuron", "max |.|", "mean", *tokens],
        ([row["neuron"], row["max_abs"], row["mean"], *row["values"]] for row in answer["rows"]),
    )
    click.echo(
        f"{answer['metric']}, {answer['part']}: {len(answer['rows'])} of {answer['total']} neurons; "
        f"baseline: {answer['provenance']['baseline']}"
    )


PARTS = ("total", "direct", "ln_mediated", "frequency_mediated")
METRICS = ("d_entropy", "d_loss", "d_kl_unigram")


def print_joint(answer: dict[str, Any]) -> None:
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


DOSE_COLUMNS = ("dose", "entropy", "frozen_entropy", "loss", "frozen_loss", "ln_scale", "top1_prob")


def print_dose(answer: dict[str, Any]) -> None:
    print_table(
        [*DOSE_COLUMNS, "top token"], ([*(row[c] for c in DOSE_COLUMNS), row["top1"]["text"]] for row in answer["rows"])
    )
    for neuron in answer["neurons"]:
        click.echo(f"{neuron['neuron']}: {neuron['activation']:.5g} here, {neuron['low']:.5g} to {neuron['high']:.5g}")


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
    click.echo(answer["null_space"]["says"])


def print_lens(answer: dict[str, Any]) -> None:
    """The entropy of every reading, and its most probable next token."""
    tokens = [f"{token['position']}:{escaped(token['text'])}" for token in answer["tokens"]]
    last = len(tokens) - 1
    print_table(
        ["layer", *tokens, "next", "prob."],
        (
            [layer["name"], *layer["entropy"], layer["top"][last][0]["text"], layer["top"][last][0]["prob"]]
            for layer in answer["layers"]
        ),
    )
    scale = "each stream's own" if answer["scale"] == "own" else "the last stream's"
    click.echo(f"entropy in nats of the {answer['of']} behind each block; LN scale: {scale}")
    click.echo(answer["sentence"])
