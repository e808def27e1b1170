"""nullscope neuron: one neuron by its weights, on a text, over the sample."""

from typing import Any

import click

from analysis.types import InputError
from app.core.grammar import read_neuron
from app.core.shell.evidence import SWEEP_HELP, speaking
from app.core.shell.output import cell, escaped, print_json, print_table
from app.core.shell.prompt import Prompt, prompt_options
from app.core.shell.session import Refused, opened
from app.core.shell.tables import query_string
from app.neuron.questions import NEURON_ON


def _named(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """The name stands in a path, so nothing else gets there."""
    try:
        return read_neuron(text)
    except InputError as error:
        raise Refused(error.told) from None


@click.command("neuron")
@click.argument("neuron", callback=_named)
@prompt_options
@click.option("--sample", is_flag=True, help="Where in the model's sample text it acts most, instead.")
@click.option("--k", type=int, help="Dimension of the null space; the knee's by default.")
@click.option("--sweep", help=SWEEP_HELP)
def command(prompt: Prompt, neuron: str, sample: bool, k: int | None, sweep: str | None) -> None:
    """NEURON (layer.index) by its weights, or on a TEXT.

    Without TEXT: statistics, labels, direct logit effect, neighbours. With TEXT: its activation at each token, what
    ablating it there does to entropy (last layer), and the text with its activation held fixed.
    """
    if prompt.given:
        if sample:
            raise Refused("Give a TEXT or --sample, not both.")
        prompt.ask(NEURON_ON, print_live, path=f"neurons/{neuron}")
        return
    with opened(prompt.model, prompt.url) as door:
        path = f"/models/{door.quoted}/neurons/{neuron}"
        answer = door.get(f"{path}/sample" if sample else f"{path}{query_string({'k': k, 'sweep': sweep})}")
    show = print_sample if sample else print_neuron
    (print_json if prompt.as_json else show)(answer)


def print_live(answer: dict[str, Any]) -> None:
    changes = answer["d_entropy"] or [None] * len(answer["tokens"])
    print_table(
        ["position", "token", "activation", "dH if ablated"],
        [
            [token["position"], token["text"], activation, change]
            for token, activation, change in zip(answer["tokens"], answer["activation"], changes, strict=True)
        ],
    )
    click.echo(f"baseline: {answer['baseline'] or 'none below the last layer'}; change of entropy in nats\n")
    columns = ["value", "ln_scale", "entropy", "loss", "rank"]
    print_table(
        ["held at", "LN scale", "entropy", "loss", "rank"],
        [[point[name] for name in columns] for point in answer["clamp"]],
    )
    for case in answer["gate_cases"] or ():
        click.echo(f"gate {case['gate']}, input {case['input']}: {case['share']:.1%} of the tokens")


def print_sample(answer: dict[str, Any]) -> None:
    for name in ("most_active", "least_active", "raises_entropy", "lowers_entropy"):
        if not answer[name]:
            continue
        click.echo(f"{name.replace('_', ' ')}")
        for found in answer[name]:
            context = f"{escaped(found['before'][-40:])} [{escaped(found['token'])}]{escaped(found['after'])}"
            click.echo(f"  {cell(found['activation']):>10}  {cell(found['d_entropy']):>10}  {context}")
    click.echo(
        f"activation, change of entropy when ablated ({answer['baseline'] or 'not below the last layer'}); "
        f"{answer['n_tokens']} tokens of {answer['source']}"
    )


def print_neuron(answer: dict[str, Any]) -> None:
    click.echo(f"{answer['sentence']}\n")
    weights = answer["weights"]
    shares = answer["percentiles"]
    rows = [
        [name, weights[name], None if shares[name] is None else 100 * shares[name]]
        for name in shares
        if weights.get(name) is not None
    ]
    print_table(["column", "value", "% of the layer below"], rows)
    for label in weights["labels"]:
        click.echo(f"\n{label['name']}: {'holds' if label['holds'] else 'does not hold'} ({label['basis']})")
        for condition in label["conditions"]:
            mark = {True: "+", False: "-", None: "?"}[condition["holds"]]
            click.echo(
                f"  {mark} {condition['text']}" + ("" if condition["value"] is None else f": {condition['value']:.5g}")
            )
    click.echo(f"\nk = {answer['k']}. {answer['null_space']['says']}")
    click.echo(f"{speaking(answer['evidence'])}\n")
    pairs = zip(answer["raised"], answer["lowered"], strict=True)
    print_table(
        ["raises", "logit", "lowers", "logit"],
        [[a["text"], a["effect"], b["text"], b["effect"]] for a, b in list(pairs)[:10]],
    )
    near = ", ".join(f"{other['neuron']} {other['cosine']:.2f}" for other in answer["nearest_out"][:5])
    click.echo(f"\nnearest by write direction: {near}")
