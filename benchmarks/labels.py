"""How often labels fire where they should and where they should not: `python -m benchmarks.labels [FOLDER ...]`.

The last layer of the bundled model (with its sweep), of each named model folder (with the sweep beside it, if there is
one), and of twenty random-weight models of the tests' architectures, whose every label is a false alarm. Beside each
count stand the random directions of the same model that pass the same rule on their weights.
"""

from __future__ import annotations

import sys
from collections import Counter
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
from analysis.registry import bundled, folder_spec
from analysis.sweep.run import bundled_result
from analysis.types import NeuronId
from benchmarks.measure import finish, table
from tests import tiny

RANDOM_MODELS = 20


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


def labels_of(model: Model, folder: Path | None) -> tuple[Label, ...]:
    file = None if folder is None else folder / "unigrams.npy"
    counted = None if file is None or not file.exists() else load_counts(file, d_vocab=model.d_vocab)
    made, said = last_layer(model, counted), dict[int, Evidence]()
    if folder is not None and (result := bundled_result(folder)) is not None:
        said = {NeuronId.parse(name).index: each for name, each in evidence_of(result).items()}
    rows = model.write_rows(model.last_layer)
    return made.labels(model.last_layer, rows, k=made.spectrum.k, evidence=said)


def counts(labels: tuple[Label, ...]) -> dict[str, int]:
    return {label.name: int(label.suggested.sum()) for label in labels}


def names(model: Model, label: Label, which: str) -> str:
    indices = getattr(label, which).nonzero()[:, 0].tolist()
    return ", ".join(f"{model.last_layer}.{index}" for index in indices) or "none"


def main() -> None:
    rows: list[list[Any]] = []
    results: dict[str, Any] = {}
    for spec in (bundled(), *(folder_spec(Path(name)) for name in sys.argv[1:])):
        model = load(spec)
        labels = labels_of(model, spec.folder)
        found, entropy = counts(labels), labels[0]
        swept = bool(entropy.swept.any())
        confirmed = names(model, entropy, "holds") if swept else "no sweep"
        rows.append([spec.key, model.d_mlp, *(found[name] for name in LABELS), confirmed])
        results[spec.key] = found | {"suggested": names(model, entropy, "suggested"), "confirmed": confirmed}
        del model
    total: Counter[str] = Counter()
    neurons = 0
    architectures = cycle((*tiny.ARCHITECTURES, *tiny.POST_NORM))
    for seed, architecture in enumerate(islice(architectures, RANDOM_MODELS)):
        model = tiny.model(architecture, seed=seed)
        total.update(counts(labels_of(model, None)))
        neurons += model.d_mlp
    rows.append([f"{RANDOM_MODELS} random", neurons, *(total[name] for name in LABELS), "no sweep"])
    results["random"] = {name: total[name] for name in LABELS}
    title = "Neurons of the last layer for which the weights suggest a label"
    table(title, ["model", "neurons", *LABELS, "entropy, decided by a sweep"], rows)
    for key, each in results.items():
        if "suggested" in each:
            print(f"{key}: entropy suggested for {each['suggested']}")
    finish("labels", results)


if __name__ == "__main__":
    main()
