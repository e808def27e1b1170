"""nullscope walk: along one singular direction of the unembedding."""

from typing import Any

import click

from app.commands.output import escaped, print_table
from app.commands.prompt import Prompt, prompt_options


@click.command("walk")
@prompt_options
@click.option("--direction", "-d", type=int, help="Singular vector, from 0; the last informative one by default.")
@click.option("--reach", default=8.0, show_default=True, help="How far, in lengths of the residual stream.")
@click.option("--uncentred", is_flag=True, help="W_U without centring over the vocabulary.")
def command(prompt: Prompt, uncentred: bool, **rest: Any) -> None:
    """Move the last residual stream of TEXT along one singular vector of W_U.

    In a null direction the log-probabilities stay while the LN scale is frozen; unfrozen, the scale grows and every
    logit shrinks.
    """
    prompt.ask("walk", print_walk, vocab_centred=not uncentred, **rest)


def print_walk(answer: dict[str, Any]) -> None:
    columns = ("amount", "ln_scale", "entropy", "top1_prob", "frozen_change")
    print_table(
        ["lengths", "LN scale", "entropy", "top-1 prob.", "largest change, scale frozen"],
        zip(*(answer[name] for name in columns), strict=True),
    )
    token = answer["token"]
    click.echo(
        f"direction {answer['direction']}, singular value {answer['singular_value']:.5g}; "
        f"at token {token['position']}: {escaped(token['text'])}; nats"
    )
