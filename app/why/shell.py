"""What the commands `why`, `why-text`, `why-compare` and `circuit` print."""

from typing import Any

import click

from app.core.shell.output import escaped, print_table


def print_why(answer: dict[str, Any]) -> None:
    """One line a part, then the sentence."""
    ablated = any(part["ablation"] is not None for part in answer["parts"])
    print_table(
        ["part", "total", "direct", "through LN scale", *(["mean ablation"] if ablated else [])],
        (
            [part["component"], part["total"], part["direct"], part["ln_scale"]]
            + ([part["ablation"]] if ablated else [])
            for part in answer["parts"]
        ),
    )
    click.echo(answer["sentence"])
    for baseline in answer["baselines"]:
        click.echo(f"baseline {baseline['name']}: {baseline['value']:.5g} nats, mean of {baseline['tokens']} tokens")
    if answer["rank_correlation"] is not None:
        click.echo(f"Spearman's rank correlation of shares and mean ablations: {answer['rank_correlation']:.3f}")
    click.echo(f"{answer['nodes']} nodes, completeness error {answer['completeness_error']:.1e} nats")


def print_why_compare(answer: dict[str, Any]) -> None:
    """One line a part: its share here less its share there; then the sentence."""
    print_table(
        ["part", "difference", "direct", "through LN scale"],
        ([part["component"], part["total"], part["direct"], part["ln_scale"]] for part in answer["parts"]),
    )
    click.echo(answer["sentence"])
    click.echo(f"completeness error {answer['completeness_error']:.1e} nats")


def print_circuit(answer: dict[str, Any]) -> None:
    """One line an edge, then the sentence, and what is large by name."""
    checked = any(edge["patched"] is not None for edge in answer["edges"])
    nodes = answer["nodes"]

    def name(node: dict[str, Any]) -> str:
        reads = "" if node["source"] is None else f" reading {node['source']}"
        at = "" if node["position"] is None else f" at {node['position']}"
        return f"{node['component']}{at}{reads}"

    print_table(
        ["from", "to", "share", *(["patched"] if checked else [])],
        (
            [name(nodes[edge["source"]]), name(nodes[edge["target"]]), edge["share"]]
            + ([edge["patched"]] if checked else [])
            for edge in answer["edges"]
        ),
    )
    click.echo(answer["sentence"])

    def token(at: int) -> str:
        return f"{at}:{escaped(answer['tokens'][at]['text'])}"

    massive, sinks = answer["massive"], answer["sinks"]
    if massive:
        click.echo("Massive activations, dimensions of the stream with more than a tenth of s² at the token:")
        columns = ["token", "dimension", "value", "share of s²"]
        print_table(columns, ([token(m["position"]), m["dimension"], m["value"], m["share"]] for m in massive))
    if sinks:
        click.echo("Tokens that a layer's heads read more than 30 % on average (the first one: an attention sink):")
        columns = ["layer", "token", "attention"]
        print_table(columns, ([sink["layer"], token(sink["source"]), sink["attention"]] for sink in sinks))


def print_why_text(answer: dict[str, Any]) -> None:
    """One line a position: the value, and each component's whole share."""
    components = answer["components"]
    print_table(
        ["token", "value", *(one["component"] for one in components)],
        (
            [f"{at}:{escaped(answer['tokens'][at]['text'])}", value]
            + [one["direct"][at] + one["ln_scale"][at] for one in components]
            for at, value in enumerate(answer["values"])
        ),
    )
    click.echo(answer["sentence"])
    click.echo(f"baseline {answer['baseline_value']:.5g} nats; completeness error {answer['completeness_error']:.1e}")
