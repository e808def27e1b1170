"""What the commands on the weights print."""

from typing import Any

import click

from app.core.shell.evidence import speaking
from app.core.shell.output import escaped, print_table

NUMBERS = (
    "norm",
    "logit_var",
    "norm_over_logit_var",
    "v_score",
    "rho",
    "rho_share",
    "frequency_alignment",
    "kurtosis",
    "skew",
    "cos_in_out",
)


def print_neurons(answer: dict[str, Any]) -> None:
    rows = [
        [
            row["neuron"],
            *(row[name] for name in NUMBERS),
            " ".join(label["name"] for label in row["labels"] if label["holds"]),
            " ".join(token["text"] for token in row["raised"][:3]),
        ]
        for row in answer["rows"]
    ]
    print_table(["neuron", *NUMBERS, "labels", "raises"], rows)
    source = answer["provenance"]
    click.echo(
        f"{len(answer['rows'])} of {answer['total']} neurons of {source['model']}; k = {answer['k']}, "
        f"largest rho by chance {answer['chance']['maximum']:.3g}"
    )
    click.echo(answer["null_space"]["says"])
    click.echo(speaking(answer["evidence"]))


def print_spectrum(answer: dict[str, Any]) -> None:
    values = answer["singular_values"]
    first = max(0, len(values) - max(answer["k"] + 5, 12))
    print_table(["index", "singular value"], [[i, values[i]] for i in range(first, len(values))])
    chance = answer["chance"]
    click.echo(
        f"\n{answer['null_space']['says']}\nk = {answer['k']} of {answer['d_model']}; "
        f"chance rho {chance['rms']:.3g}, largest {chance['maximum']:.3g}\n"
    )
    columns = ["median", "q75", "q99", "max"]
    print_table(
        ["layer", *columns],
        [[layer, *(found[name] for name in columns)] for layer, found in answer["rho_quantiles"].items()],
    )


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
