"""What `nullscope trace` and `nullscope story` print."""

from typing import Any

import click

from app.core.shell.output import print_table


def print_trace(answer: dict[str, Any]) -> None:
    from app.core.escape import visible

    clean, changed = answer["clean"], answer["intervened"]
    columns = ["pos", "token", "entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank"]
    columns += [*clean["activations"], *(["d_entropy", "d_loss"] if changed else []), "next tokens"]
    rows = []
    for t, token in enumerate(answer["tokens"]):
        row = [t, visible(token["text"]), *(at(clean[name], t) for name in columns[2:8])]
        row += [values[t] for values in clean["activations"].values()]
        if changed:
            row += [difference(changed[name][t], clean[name][t]) for name in ("entropy", "loss")]
        rows.append([*row, " ".join(f"{visible(item['text'])} {item['prob']:.3f}" for item in clean["top"][t])])
    print_table(columns, rows)
    source = answer["provenance"]
    baseline = f"; mean: {source['baseline']}" if source["baseline"] else ""
    weights = f"{source['model']} {source['weights_sha256'][:12]}"
    click.echo(f"{weights} {source['dtype']} on {source['device']}; nats{baseline}")


def print_story(answer: dict[str, Any]) -> None:
    scaled, held, unread = answer["scaled"], answer["held"], answer["unread"]
    click.echo("mean entropy of the text with its logits multiplied; nats")
    sums = [sum(column) / len(column) for column in zip(*scaled["entropy"], strict=True)]
    print_table(["factor", "entropy"], list(zip(scaled["factors"], sums, strict=True))[::4])
    print_table(["LN scale held at", "entropy"], list(zip(held["scales"], held["entropy"], strict=True))[::7])
    null, read = unread["null"], unread["read"]
    rows = zip(unread["amounts"], null["ln_scale"], null["change"], read["change"], strict=True)
    print_table(["moved by", "LN scale", "max |d log P|, unread", "most read"], [list(row) for row in rows][::6])
    for kind in ("entropy", "frequency"):
        dial = answer[kind]
        if dial is None:
            click.echo(f"no neuron carries the label ({kind}); labels rest on {answer['rests_on']}")
            continue
        kl = dial["kl_unigram"] or [None] * len(dial["values"])
        lines = zip(dial["values"], dial["entropy"], dial["ln_scale"], dial["kept"], kl, strict=True)
        print_table(
            [dial["neuron"], "entropy", "LN scale", "of 50 kept", "KL unigram"], [list(line) for line in lines][::6]
        )


def at(values: list[Any] | None, position: int) -> Any:
    return None if values is None else values[position]


def difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
