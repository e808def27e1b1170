"""How often labels fire where they should and where they should not: `python -m benchmarks.labels [FOLDER ...]`.

The last layer of the bundled model, of SmolLM2 where it is here, of each named model folder (each with the counts and
the sweep that ship or lie beside it), and of twenty random-weight models of the tests' architectures, whose every label
is a false alarm. Beside each count stand as many random directions of the same model, of the neurons' norms but drawn
with another seed than those that the rules measure by: what of them passes the same rule is a false alarm, too.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from analysis import atlas, nullspace, weights
from analysis.atlas import Atlas, NeuronTable
from analysis.evidence import evidence_of
from analysis.frequency import Unigram, load_counts
from analysis.labels import LABELS, Evidence, Label
from analysis.model import Model, load
from analysis.registry import PACKAGED, bundled, folder_spec
from analysis.sweep.run import bundled_result
from analysis.types import NeuronId
from app.core.residency import packages
from app.core.settings import Settings
from benchmarks.measure import finish, table
from tests import tiny

RANDOM_MODELS = 20
SEED = 1


@torch.inference_mode()
def last_layer(model: Model, counts: Unigram | None) -> Atlas:
    """The atlas of the last layer alone; it stands in every layer's place."""
    readout, layer = model.readout, model.last_layer
    vocabulary = weights.Vocabulary.of(readout, counts)
    found = nullspace.spectrum(readout)
    controls = atlas._controls(readout, vocabulary, model.write_rows(layer))
    columns = atlas._columns(model, layer, slice(None), vocabulary)
    stacked = {name: values.expand(model.n_layers, *values.shape) for name, values in columns.items()}
    return Atlas(NeuronTable(**stacked), found, found, controls, model.weights_sha256)


@torch.inference_mode()
def of_directions(model: Model, counts: Unigram | None, made: Atlas) -> tuple[Label, ...]:
    """The labels of random directions that the rules have not seen, in the neurons' place."""
    vocabulary = weights.Vocabulary.of(model.readout, counts)
    drawn = atlas._controls(model.readout, vocabulary, model.write_rows(model.last_layer), seed=SEED)
    names = ("norm", "logit_var", "skew", "kurtosis", "frequency_alignment")
    columns = {name: getattr(drawn, name).expand(model.n_layers, -1) for name in names}
    k = made.label_k(made.spectrum.k)
    rho = nullspace.rho(drawn.rows, made.spectrum.basis(k))
    return replace(made, table=replace(made.table, **columns)).labels_by(model.last_layer, rho, k=made.spectrum.k)


def labels_of(model: Model, folder: Path | None) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Of the last layer's neurons, and of as many random directions. folder: where counts and a sweep are."""
    file = None if folder is None else folder / "unigrams.npy"
    counted = None if file is None or not file.exists() else load_counts(file, d_vocab=model.d_vocab)
    made, said = last_layer(model, counted), dict[int, Evidence]()
    if folder is not None and (result := bundled_result(folder)) is not None:
        said = {NeuronId.parse(name).index: each for name, each in evidence_of(result).items()}
    rows = model.write_rows(model.last_layer)
    labels = made.labels(model.last_layer, rows, k=made.spectrum.k, evidence=said)
    return labels, of_directions(model, counted, made)


def counts(labels: tuple[Label, ...]) -> dict[str, int]:
    return {label.name: int(label.suggested.sum()) for label in labels}


def names(model: Model, label: Label, which: str) -> str:
    indices = getattr(label, which).nonzero()[:, 0].tolist()
    return ", ".join(f"{model.last_layer}.{index}" for index in indices) or "none"


def main() -> None:
    rows: list[list[Any]] = []
    results: dict[str, Any] = {}
    specs = [(bundled(), bundled().folder)]
    for spec in PACKAGED.values():
        if (folder := packages.local(spec, Settings().data_dir)) is not None:
            specs.append((spec, folder))
    specs += [(folder_spec(Path(name)), Path(name)) for name in sys.argv[1:]]
    for spec, folder in specs:
        assert folder is not None
        model = load(spec, folder=folder)
        labels, drawn = labels_of(model, spec.home)
        found, entropy = counts(labels), labels[0]
        swept = bool(entropy.swept.any())
        confirmed = names(model, entropy, "holds") if swept else "no sweep"
        frequency = names(model, labels[1], "holds") if swept else "no sweep"
        rows.append([spec.key, model.d_mlp, *(found[name] for name in LABELS), confirmed, frequency])
        rows.append([f"{spec.key}, random directions", model.d_mlp, *(counts(drawn)[name] for name in LABELS), "", ""])
        results[spec.key] = found | {"suggested": names(model, entropy, "suggested"), "confirmed": confirmed}
        del model
    total: Counter[str] = Counter()
    neurons = 0
    architectures = cycle((*tiny.ARCHITECTURES, *tiny.POST_NORM))
    for seed, architecture in enumerate(islice(architectures, RANDOM_MODELS)):
        model = tiny.model(architecture, seed=seed)
        total.update(counts(labels_of(model, None)[0]))
        neurons += model.d_mlp
    rows.append([f"{RANDOM_MODELS} random", neurons, *(total[name] for name in LABELS), "no sweep", ""])
    results["random"] = {name: total[name] for name in LABELS}
    title = "Neurons of the last layer for which the weights suggest a label"
    table(title, ["model", "neurons", *LABELS, "entropy, decided by a sweep", "token-frequency likewise"], rows)
    for key, each in results.items():
        if "suggested" in each:
            print(f"{key}: entropy suggested for {each['suggested']}")
    finish("labels", results)


if __name__ == "__main__":
    main()
