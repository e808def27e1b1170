"""nullscope frequency: token counts and the neurons that write along them."""

from typing import Any

import click

from app.atlas.questions import FREQUENCY_ON
from app.core.shell.output import cell, escaped, print_json, print_table
from app.core.shell.prompt import Prompt, prompt_options
from app.core.shell.session import Refused, opened


@click.command("frequency")
@prompt_options
@click.option("--neuron", "-n", metavar="L.I", help="With TEXT: the neuron to ablate; the most aligned by default.")
@click.option("--position", "-p", help="With TEXT: where; by default where the neuron stands out most.")
def command(prompt: Prompt, neuron: str | None, position: str | None) -> None:
    """Token counts and what goes along with them.

    Without TEXT: the unigram distribution, alignment by layer, and softmax(b_U) against the counts. With TEXT: entropy
    and KL(P_freq || P) of each token, and one neuron ablated at one of them.
    """
    if prompt.given:
        prompt.ask(FREQUENCY_ON, print_on_prompt, neuron=neuron, position=position)
        return
    if neuron or position:
        raise Refused("--neuron and --position need a TEXT to ablate it on.")
    with opened(prompt.model, prompt.url) as door:
        answer = door.get(f"/models/{door.quoted}/frequency")
    if prompt.as_json:
        print_json(answer)
    else:
        print_frequency(answer)


def print_on_prompt(answer: dict[str, Any]) -> None:
    prompt, shift = answer["prompt"], answer["shift"]
    print_table(
        ["position", "token", "entropy", "KL(P_freq || P)"],
        [
            [token["position"], token["text"], *values]
            for token, *values in zip(prompt["tokens"], prompt["entropy"], prompt["kl_unigram"], strict=True)
        ],
    )
    token = shift["token"]
    click.echo(
        f"correlation {cell(prompt['correlation'])}; {shift['neuron']} ablated at token {token['position']} "
        f"({escaped(token['text'])}): KL(P_freq || P) {cell(shift['d_kl_unigram'])}, log P by "
        f"{cell(shift['slope'])} per nat of log frequency; nats"
    )


def print_frequency(answer: dict[str, Any]) -> None:
    if answer["source"] is None:
        click.echo(
            "No token counts. Count a text with `nullscope count`, or give a file to `nullscope serve --counts`."
        )
    else:
        click.echo(f"{answer['n_counted']} tokens counted ({answer['source']}), entropy {answer['entropy']:.5g} nats")
        for name, value in answer["b_U"].items():
            click.echo(f"  softmax(b_U) {name}: " + ("-" if value is None else f"{value:.5g}"))
    columns = ["min", "median", "q99", "max"]
    rows = [[layer, *(found[name] for name in columns)] for layer, found in answer["alignment_quantiles"].items()]
    print_table(["layer", *columns], rows)
