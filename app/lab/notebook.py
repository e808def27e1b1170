"""A stored result as code: a call of the client, and a notebook that computes its numbers without this program.

The notebook uses plain torch, transformers and, for most kinds, transformer_lens. An ablation there is a hook in a
forward pass, so it also checks the closed form that the numbers came from.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.responses import Response

from analysis.registry import LISTED
from analysis.sweep.plan import DRAWN_TOKENS
from analysis.types import InputError
from app.core.code import Server
from app.core.drawn import Drawn
from app.core.interventions import parse_intervention
from app.core.question import PROMPT_PAGE, SWEEP
from app.core.store.results import answer_of
from app.core.store.tables import Result
from app.lab import cells, cells_sweep, cells_why, notebook_written

MOST_RUNS = 50  # each is two forward passes in the notebook
Parts = Mapping[str, float | None]
Runs = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Given:
    """What a notebook's numbers are written from. means: of the neurons ablated to them. rows: of kinds over several
    rows. drawn: of a sweep, as in `analysis.sweep.spots`."""

    stored: Result
    answer: dict[str, Any]
    means: Mapping[str, float]
    rows: Sequence[Sequence[int]]
    drawn: Sequence[Mapping[str, Any]] = ()


def attachment(make: Callable[[], str], name: str, media_type: str) -> Response:
    """A file to keep, whose text `make` gives."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Drawn(make, 200, headers, f"{media_type}; charset=utf-8")


def client_code(stored: Result, server: Server) -> str:
    """Python that opens the result through the client."""
    return (
        f"{server.client()}\n"
        f"saved = client.result({stored.hash!r})\n"
        'print(saved.verdict, saved.sentence)\nsaved.result["provenance"]'
    )


def notebook(
    stored: Result,
    means: Mapping[str, float] | None = None,
    rows: Sequence[Sequence[int]] | None = None,
    drawn: Sequence[Mapping[str, Any]] = (),
    folder: Path | None = None,
) -> str:
    """The .ipynb as JSON text.

    means: reference means of the neurons that are ablated to them. rows: token ids of every row, for
    kinds over several rows, of which a stored result names the first only; of a sweep all or a few, with the stored
    numbers at their `drawn` tokens. folder: where the model lies, for who may know that. stored: with every option
    (`app.core.permalinks.whole`).
    """
    answer = answer_of(stored)
    known = means or {}
    if missing := [name for name in needed_means(stored) if name not in known]:
        raise InputError(
            f"The reference mean of {missing[0]} is not known now.",
            code="baseline_not_ready",
            hint="Load the model first.",
        )
    if (numbers := NUMBERS.get(stored.kind)) is None:
        raise InputError(
            f"There is no notebook for {stored.kind} results yet.",
            code="no_notebook",
            hint="Its JSON and Python give the same numbers.",
        )
    given = Given(stored, answer, known, rows or (), drawn)
    document = {
        "cells": [
            _markdown(_title(stored)),
            _code("load", _load(given, folder)),
            _code("numbers", numbers(given)),
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "nullscope": {"hash": stored.hash, "request": stored.request, "versions": stored.versions},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1)


def needed_means(stored: Result) -> list[str]:
    """Neurons whose reference mean the notebook has to know."""
    if stored.kind == "heatmap":
        of_mean = stored.request["options"]["baseline"] == "mean"
        return [row["neuron"] for row in answer_of(stored)["rows"]] if of_mean else []
    return [item["neuron"] for item in _interventions(stored) if _to_reference_mean(item)]


def _to_reference_mean(item: Mapping[str, Any]) -> bool:
    return item["mode"] == "mean" and "head" not in item


def _interventions(stored: Result) -> list[dict[str, Any]]:
    options = stored.request["options"]
    if stored.kind == PROMPT_PAGE:
        written = map(parse_intervention, options.get("do", "").split())
        return [item.model_dump(mode="json") for active, item in written if active]
    found: list[dict[str, Any]] = options.get("interventions") or []
    return found


def _title(stored: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in stored.versions.items())
    return (
        f"# Nullscope: {stored.kind} on `{stored.model.replace('`', chr(39))}`\n\n"
        f"Request `{stored.hash}`. Weights sha256 `{stored.weights_sha256}`. Made with {versions}.\n\n"
        "Entropy and loss in nats. `NULLSCOPE_MODEL` in the environment names the model's folder, or its hub name."
    )


def _load(given: Given, folder: Path | None) -> str:
    stored, answer = given.stored, given.answer
    scale = (answer.get("trace") or answer).get("ln_scale")
    tokens = stored.request["token_ids"] or [*given.rows[0]]
    if stored.kind in notebook_written.KINDS:
        start = notebook_written.start(stored.request["options"])
        return f"{_model(stored, answer, folder)}\nTOKENS = {tokens!r}\n{start}"
    if stored.kind == "why":
        return f"{_model(stored, answer, folder)}\nTOKENS = {tokens!r}\n\n{cells_why.START}"
    return (
        f"{_model(stored, answer, folder)}\nTOKENS = {tokens!r}\n"
        f"SCALE = {scale!r}  # a constant final LN scale, or None: the model's own\n\n{cells.START}"
    )


def _model(stored: Result, answer: Mapping[str, Any], folder: Path | None) -> str:
    """MODEL: its hub name or its folder. Whoever may not know the folder is asked for one of their own."""
    source = _source(stored, answer)
    if source is not None or folder is not None:
        return cells.KNOWN.format(model=source or str(folder))
    sentence = (
        f"Set NULLSCOPE_MODEL to the folder of {stored.model!r} (weights sha256 {stored.weights_sha256}) and run this "
        "cell again: where it lies on the server only its administrators are told."
    )
    return cells.ASKED.format(sentence=sentence)


def _source(stored: Result, answer: Mapping[str, Any]) -> str | None:
    """The model's hub name; None for a folder."""
    if stored.kind == SWEEP:
        spec = LISTED.get(stored.model)
        return None if spec is None else spec.hub
    source: str = (answer.get("provenance") or answer["trace"]["provenance"])["source"]
    return None if source == "local folder" else source


def _trace(given: Given) -> str:
    trace = given.answer.get("trace") or given.answer
    interventions = _without_means(given)
    checks = {"entropy": trace["clean"]["entropy"], "loss": trace["clean"]["loss"][:-1]}
    after = trace["intervened"] and trace["intervened"]["entropy"]
    return f"EXPECTED = {checks!r}\nINTERVENTIONS = {interventions!r}\nAFTER = {after!r}\n\n{cells.TRACE}"


def _without_means(given: Given) -> list[dict[str, Any]]:
    """The interventions, a reference mean as the value that it is."""
    items = _interventions(given.stored)
    return [
        item | {"mode": "value", "value": given.means[item["neuron"]]} if _to_reference_mean(item) else item
        for item in items
    ]


def _generate(given: Given) -> str:
    return notebook_written.generated(given.stored.request["options"], given.answer, _without_means(given))


def _dial(given: Given) -> str:
    return notebook_written.dialled(given.stored.request["options"], given.answer)


def _ledger(given: Given) -> str:
    """Every component, and the listed neurons of the last MLP."""
    answer = given.answer
    switches = answer["provenance"]["folding"]
    if switches["post_norm"] or switches["soft_cap"]:
        raise _none_yet("the ledger of a model with a norm behind its MLP or capped logits")
    rows = {
        name: [{key: row[key] for key in ("component", "share", "null")} for row in answer[name]]
        for name in ("rows", "neurons")
    }
    return (
        f"POSITION, K = {answer['clean']['position']!r}, {answer['k']!r}\n"
        f"TOTAL, EPS = {answer['total']!r}, {answer['eps']!r}\n"
        f"CENTRED, VOCAB_CENTRED = {switches['centred']!r}, {switches['vocab_centred']!r}\n"
        f"ROWS = {rows['rows']!r}\nNEURONS = {rows['neurons']!r}\n\n{cells.LEDGER}"
    )


def _none_yet(what: str) -> InputError:
    hint = "Its JSON and Python give the same numbers."
    return InputError(f"There is no notebook for {what} yet.", code="no_notebook", hint=hint)


def _why(given: Given) -> str:
    """Every part, by torch's own gradients; against the means over the stored rows or over the prompt itself."""
    answer, asked = given.answer, given.stored.request["options"]
    switches = answer["provenance"]["folding"]
    if switches["post_norm"] or switches["soft_cap"]:
        raise _none_yet("a split of a model with a norm behind its MLP or capped logits")
    if asked.get("interventions") or asked.get("ln_scale") is not None:
        raise _none_yet("a split under interventions or with the LN scale held")
    name = asked["baseline"]
    rows = [list(row) for row in given.rows]
    tokens = next(one["tokens"] for one in answer["baselines"] if one["name"] == name)
    skip = (sum(map(len, rows)) - tokens) // len(rows)
    parts = [{key: part[key] for key in ("component", "total", "direct")} for part in answer["parts"]]
    token = answer["token"] and answer["token"]["id"]
    return (
        f"POSITION, TARGET, TOKEN = {answer['clean']['position']!r}, {answer['target']!r}, {token!r}\n"
        f"NODES, BASELINE, VALUE = {answer['nodes']!r}, {answer['baseline_value']!r}, {answer['value']!r}\n"
        f"CENTRED, EPS = {switches['centred']!r}, {answer['eps']!r}\n"
        f"ROWS, SKIP = {rows!r}, {skip!r}\nPARTS = {parts!r}\n\n{cells_why.WHY}"
    )


def _induction(given: Given) -> str:
    """Curves by position, the ranking's means, and the clipped ablation where there is one."""
    answer = given.answer
    repeat, clip = answer["repeat"], answer["clip"]
    curves = {name: answer["curves"][name]["mean"] for name in ("entropy", "loss")}
    curves["loss"] = curves["loss"][:-1]  # nothing follows the last token
    copies = [(start, start + repeat["length"]) for start in repeat["starts"]]
    ranking = [{key: row[key] for key in ("neuron", "first", "second")} for row in answer["ranking"]]
    ratios = {name: clip[name]["mean"] for name in ("ratio", "ratio_frozen")} if clip else {}
    return (
        f"ROWS = {given.rows!r}\nCOPIES = {copies!r}\nCURVES = {curves!r}\nRANKING = {ranking!r}\n"
        f"RULES = {clip['rules'] if clip else []!r}\nRATIOS = {ratios!r}\n\n{cells.INDUCTION}"
    )


def _heads(given: Given) -> str:
    answer = given.answer
    return f"ROWS = {given.rows!r}\nLENGTH = {answer['length']!r}\nSCORES = {answer['rows']!r}\n\n{cells.HEADS}"


SWEPT = 3
"""Neurons of a sweep that its notebook ablates."""


def swept(stored: Result) -> dict[str, float | None]:
    """The first neurons of a sweep's table, and what each was set to; None: to another token's activation."""
    return {row["neuron"]: row["baseline"] for row in islice(answer_of(stored)["rows"], SWEPT)}


def _sweep(given: Given) -> str:
    """The first neurons of the table: at drawn tokens, and their averages where all rows are there."""
    answer, neurons = given.answer, swept(given.stored)
    config, whole = answer["manifest"]["config"], len(given.rows) == answer["n_rows"]
    resampled = None in neurons.values()
    if resampled and not whole:
        raise InputError(
            "There is no notebook for a sweep over so long a text that set every neuron to another token's activation: "
            "those tokens lie all over it.",
            code="no_notebook",
            hint="Its JSON and Python give the same numbers.",
        )
    pool = min(max(DRAWN_TOKENS, config["sample_tokens"]), answer["n_tokens"])
    parts = [
        cells_sweep.SETUP,
        *([f"POOL = {pool!r}\n{cells_sweep.RESAMPLED}"] if resampled else []),
        cells_sweep.BY_ROW,
    ]
    averages = {row["neuron"]: _averages(row) for row in answer["rows"] if row["neuron"] in neurons} if whole else {}
    return (
        f"ROWS = {[*given.rows]!r}\nNEURONS = {neurons!r}\nDRAWN = {[*given.drawn]!r}\nAVERAGES = {averages!r}\n"
        f"N_TOKENS, FILTER, SEED = {answer['n_tokens']!r}, {config['token_filter']!r}, {config['seed']!r}\n\n"
        + "\n\n\n".join(parts)
    )


def _averages(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Of a sweep's table what a hooked pass gives."""
    names = ("entropy", "abs_entropy", "loss", "abs_loss")
    effects = {f"{path}.{name}": row[path][name] for path in ("total", "direct") for name in names}
    return {"activation.mean": row["activation"]["mean"], **effects}


def _run(name: str, position: int, values: Mapping[str, float | None], entropy: Parts, loss: Parts) -> dict[str, Any]:
    """Neurons set to values at a position, and what that changes there; None where it is not told."""
    return {
        "name": name,
        "position": position,
        "values": {int(neuron.split(".")[1]): value for neuron, value in values.items()},
        "d_entropy": entropy.get("total"),
        "direct_entropy": _ln_frozen(entropy),
        "d_loss": loss.get("total"),
        "direct_loss": _ln_frozen(loss),
    }


def _ln_frozen(parts: Parts) -> float | None:
    """The change with the final norm's scale frozen, which is what a notebook measures."""
    direct = parts.get("direct")
    return None if direct is None else direct + (parts.get("mlp_norm") or 0.0)


def _effects(given: Given) -> Runs:
    """One neuron each, as in the table."""
    answer = given.answer
    for row in answer["rows"]:
        at = {row["neuron"]: row["baseline"]}
        yield _run(row["neuron"], answer["clean"]["position"], at, row["d_entropy"], row["d_loss"])


def _joint(given: Given) -> Runs:
    """The set, then each of its neurons."""
    answer = given.answer
    every = {row["neuron"]: row["baseline"] for row in answer["rows"]}
    joint = answer["joint"]
    yield _run("together", answer["clean"]["position"], every, joint["d_entropy"], joint["d_loss"])
    yield from _effects(given)


def _dose(given: Given) -> Runs:
    """The set at one dose after another. The answer has levels, a run has changes."""
    answer, clean = given.answer, given.answer["clean"]
    for row in answer["rows"]:
        parts = [
            {part: None if None in (row[key], clean[name]) else row[key] - clean[name] for part, key in keys.items()}
            for name in ("entropy", "loss")
            for keys in ({"total": name, "direct": f"frozen_{name}"},)
        ]
        at = {marked["neuron"]: row["dose"] for marked in answer["neurons"]}
        yield _run(f"dose {row['dose']:g}", clean["position"], at, *parts)


def _heatmap(given: Given) -> Runs:
    """The largest cells."""
    asked = given.stored.request["options"]
    metric, part, baseline = asked["metric"], asked["part"], asked["baseline"]
    if metric not in ("d_entropy", "d_loss") or part not in ("total", "direct"):
        raise InputError(
            f"There is no notebook for a heat map of {metric}, {part}, yet.",
            code="no_notebook",
            hint="There is one for the parts total and direct of d_entropy and d_loss.",
        )
    cells_ = ((row["neuron"], at, value) for row in given.answer["rows"] for at, value in enumerate(row["values"]))
    for neuron, at, value in sorted((c for c in cells_ if c[2] is not None), key=lambda cell: -abs(cell[2])):
        to = given.means[neuron] if baseline == "mean" else {"zero": 0.0, "prompt_mean": None}.get(baseline, baseline)
        changes = {name: {part: value} if name == metric else {} for name in ("d_entropy", "d_loss")}
        yield _run(f"{neuron} at {at}", at, {neuron: to}, changes["d_entropy"], changes["d_loss"])


def _in_runs(runs: Callable[[Given], Runs]) -> Callable[[Given], str]:
    """Neurons of the last layer set at a position, one run after another."""
    return lambda given: f"RUNS = {list(islice(runs(given), MOST_RUNS))!r}\n\n{cells.RUNS}"


NUMBERS: dict[str, Callable[[Given], str]] = {
    "trace": _trace,
    "prompt": _trace,
    "effects": _in_runs(_effects),
    "joint": _in_runs(_joint),
    "dose": _in_runs(_dose),
    "heatmap": _in_runs(_heatmap),
    "generate": _generate,
    "dial": _dial,
    "ledger": _ledger,
    "why": _why,
    "induction": _induction,
    "heads": _heads,
    SWEEP: _sweep,
}
"""The kinds of result that have a notebook, and what writes its numbers."""


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "title", "metadata": {}, "source": text}


def _code(name: str, text: str) -> dict[str, Any]:
    return {
        "cell_type": "code", "id": name, "metadata": {}, "execution_count": None, "outputs": [], "source": text
    }  # fmt: skip
