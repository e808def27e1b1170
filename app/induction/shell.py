"""nullscope induction: confidence on repeated text, the heads that copy, and what drives a neuron."""

import sys
from collections.abc import Callable
from typing import Any

import click

from app.core.shell.options import model_options
from app.core.shell.output import print_json, print_table
from app.core.shell.session import opened, refusing

METRICS = ("entropy", "loss", "ln_scale", "top1_prob", "kl_unigram")


@click.command("induction")
@model_options
@click.argument("text", required=False)
@click.option("--kind", type=click.Choice(["natural", "random"]), default="natural", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--rows", type=int, help="Rows of text; the API's default otherwise.")
@click.option("--length", type=int, help="Tokens of one copy; the paper's 99 or what fits.")
@click.option("--copies", default=2, show_default=True, help="2 to 8.")
@click.option("--separator", default="", help="Text between two copies.")
@click.option("--corrupt", default=0, show_default=True, help="How many tokens of the second copy to replace.")
@click.option("--corrupt-at", multiple=True, type=int, metavar="N", help="Which ones instead, from 0; repeatable.")
@click.option("--neuron", "-n", "neurons", multiple=True, metavar="L.I", help="Show its activation; repeatable.")
@click.option("--clip", multiple=True, metavar="L.I", help="Clip these last-layer neurons together; repeatable.")
@click.option(
    "--controls",
    default=20,
    show_default=True,
    help="Sets of random directions beside it.",
)
@click.option("--limit", default=10, show_default=True, help="Rows of the ranking.")
@click.option("--curves", is_flag=True, help="Print every curve by position too.")
@click.option("--heads", "scores", is_flag=True, help="Induction scores of every attention head instead.")
@click.option("--pattern", metavar="L.H", help="With --heads: where this head looks.")
@click.option("--who", metavar="L.I", help="Split this neuron's pre-activation over heads, MLPs, embedding instead.")
@click.option("--ablate", multiple=True, metavar="L.H", help="Take these heads out and read --neuron instead.")
@click.option("--mode", type=click.Choice(["bos", "mean", "zero"]), default="bos", show_default=True)
@click.option("--queries", default=32, show_default=True, help="With --ablate: queries of the second copy.")
@click.option("--random", default=3, show_default=True, help="With --ablate: random heads, and sets of as many.")
@click.option("--natural-repeats", is_flag=True, help="6-grams that occur twice in TEXT, or the sample, instead.")
@click.option("--passages", default=64, show_default=True, help="With --natural-repeats: at most so many.")
def command(model: str | None, url: str | None, as_json: bool, **options: Any) -> None:
    """What happens to confidence when TEXT (or the sample text, or random ids) is repeated; nats."""
    question, body = asked(options)
    with opened(model, url) as door:
        answer = door.model(question, body)
    if as_json:
        print_json(answer)
        return
    PRINTED[question](answer)
    if options["curves"] and question == "induction":
        print_curves(answer)


def asked(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Which question of the API, and its body, checked before a model is loaded."""
    from app.core.request import Strict
    from app.induction import request as requests

    rows = {} if options["rows"] is None else {"rows": options["rows"]}
    repeat = {name: options[name] for name in ("seed", "length", "copies", "separator", "corrupt")} | rows
    repeat["corrupt_at"] = list(options["corrupt_at"])
    repeat["kind"] = "text" if options["text"] is not None else options["kind"]
    if options["text"] is not None:
        repeat["text"] = sys.stdin.read() if options["text"] == "-" else options["text"]
    neurons, clip = list(options["neurons"]), list(options["clip"])
    request: type[Strict]
    if options["scores"]:
        question, request = "heads", requests.HeadsRequest
        body: dict[str, Any] = {
            "seed": options["seed"],
            "length": options["length"],
            "pattern": options["pattern"],
            **rows,
        }
    elif options["who"] is not None:
        question, request = "induction/attribution", requests.AttributionRequest
        body = {**repeat, "neuron": options["who"]}
    elif options["ablate"]:
        question, request = "induction/ablation", requests.HeadAblationRequest
        body = {**repeat, "heads": list(options["ablate"]), "neurons": neurons}
        body |= {name: options[name] for name in ("mode", "queries", "random")}
    elif options["natural_repeats"]:
        question, request = "induction/natural", requests.NaturalRequest
        body = {"text": repeat.get("text"), "clip": clip, "passages": options["passages"]}
    else:
        question, request = "induction", requests.InductionRequest
        body = {**repeat, "neurons": neurons, "clip": clip, **{k: options[k] for k in ("controls", "limit")}}
    with refusing():
        request.model_validate(body)
    return question, body


def print_induction(answer: dict[str, Any]) -> None:
    print_layout(answer["repeat"])
    print_table(["mean over", "first copy", "second copy"], ([n, h["first"], h["second"]] for n, h in halves(answer)))
    click.echo("")
    columns = ["neuron", "first", "second", "weighted", "natural", "norm", "rho"]
    print_table(columns, ([row[name] for name in columns] for row in answer["ranking"]))
    click.echo(f"{len(answer['ranking'])} of {answer['total']} neurons by |weighted activation difference|")
    if answer["clip"]:
        print_clip(answer["clip"])


def halves(answer: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = answer["halves"]
    return sorted(found.items(), key=lambda item: METRICS.index(item[0]) if item[0] in METRICS else len(METRICS))


def print_curves(answer: dict[str, Any]) -> None:
    """Mean over rows at each position; --json has the bands."""
    found = {**answer["curves"], **answer["activations"]}
    if answer["clip"]:
        found |= {name: answer["clip"][name] for name in ("ratio", "ratio_frozen", "loss_change")}
    click.echo("")
    positions = range(answer["repeat"]["n_positions"])
    print_table(["pos", *found], ([t, *(curve["mean"][t] for curve in found.values())] for t in positions))


def print_clip(clip: dict[str, Any]) -> None:
    click.echo("\nclipped: " + ", ".join(f"{r['neuron']} {r['direction']} {r['m']:.4g}" for r in clip["rules"]))
    print_table(
        ["on the repeats", "total", "LN scale frozen"],
        [
            ["H_post / H", clip["repeat_ratio"], clip["repeat_ratio_frozen"]],
            ["change of loss", clip["repeat_loss_change"], clip["repeat_loss_change_frozen"]],
        ],
    )
    ratios = sorted(row["ratio"] for row in clip["controls"])
    if ratios:
        click.echo(
            f"{len(ratios)} sets of random directions of the same norms: H_post / H from {ratios[0]:.4f} to "
            f"{ratios[-1]:.4f}"
        )
    for stands in clip["standings"]:
        p = "" if stands["p"] is None else f", p = {stands['p']:.3f}"
        click.echo(f"{stands['quantity']}: {stands['value']:.4f}, rank {stands['rank']} of {stands['of']}{p}")


def print_heads(answer: dict[str, Any]) -> None:
    columns = ["head", "induction", "duplicate", "previous", "first"]
    rows = sorted(answer["rows"], key=lambda row: -row["induction"])
    print_table(columns, ([row[name] for name in columns] for row in rows))
    print_note(answer["note"])
    if answer["pattern"]:
        print_pattern(answer["pattern"])
    click.echo(f"{answer['n_rows']} rows of {answer['length']} random ids twice; threshold {answer['threshold']}")


def print_pattern(pattern: dict[str, Any]) -> None:
    """Where the head looks most, query by query."""
    from app.core.escape import visible

    texts = [visible(token["text"]) for token in pattern["tokens"]]
    best = [(query, max(range(len(row)), key=row.__getitem__), row) for query, row in enumerate(pattern["attention"])]
    click.echo(f"\nhead {pattern['head']} on the first row: the key it attends to most")
    columns = ["query", "token", "key", "key's token", "attention"]
    print_table(columns, ([query, texts[query], key, texts[key], row[key]] for query, key, row in best))


def print_attribution(answer: dict[str, Any]) -> None:
    print_layout(answer["repeat"])
    columns = ["component", "first", "second", "change", "on_repeats"]
    print_table(columns, ([row[name] for name in columns] for row in answer["rows"]))
    click.echo(f"parts sum to the pre-activation of {answer['neuron']} within {answer['residual']:.1e}")


def print_ablation(answer: dict[str, Any]) -> None:
    print_layout(answer["repeat"])
    columns = ["role", "heads", *(f"d {name}" for name in answer["neurons"]), "d entropy", "d LN scale"]
    print_table(
        columns,
        (
            [row["role"], " ".join(row["heads"]), *row["activation"].values(), row["d_entropy"], row["d_ln_scale"]]
            for row in answer["rows"]
        ),
    )
    click.echo(f"{answer['mode']} ablation at {len(answer['queries'])} queries of the second copy, each by itself")


def print_natural(answer: dict[str, Any]) -> None:
    from app.core.escape import visible

    columns = ["first", "second", "goes on", "6-gram"]
    rows = ([p["first"], p["second"], p["continued"], visible(p["gram"])] for p in answer["passages"])
    print_table(columns, rows)
    click.echo(f"{len(answer['passages'])} passages in {answer['searched']} rows of {answer['source']}")
    if answer["clean"]:
        found = {
            f"{name} {run}": curve["mean"]
            for run in ("first", "second")
            for name, curve in answer["clean"][run].items()
        }
        if answer["clipped"]:
            found |= {f"{name} clipped": curve["mean"] for name, curve in answer["clipped"]["second"].items()}
        print_table(["offset", *found], ([k, *(values[k] for values in found.values())] for k in range(7)))


def print_layout(repeat: dict[str, Any]) -> None:
    size = f"{repeat['copies']} x {repeat['length']} tokens"
    click.echo(f"{repeat['rows']} rows of {size}; {repeat['source']}, seed {repeat['seed']}")
    print_note(repeat["note"])


def print_note(note: str | None) -> None:
    if note:
        click.echo(note)


PRINTED: dict[str, Callable[[dict[str, Any]], None]] = {
    "induction": print_induction,
    "heads": print_heads,
    "induction/attribution": print_attribution,
    "induction/ablation": print_ablation,
    "induction/natural": print_natural,
}
