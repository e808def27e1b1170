"""How far a circuit's shares agree with patched passes: Spearman's rank correlation over all drawn edges, and the sum
of |share - pass| over that of |pass|. At one token (the text's last) and on average over the text's tokens.

    python -m benchmarks.circuits [FOLDER or key of a model, NEURON ...]
"""

from __future__ import annotations

import json
import sys
import time

import torch

from analysis.circuit import Circuit, check, circuit, read
from analysis.components import mean_writes
from analysis.model import load
from analysis.registry import BUNDLED, BUNDLED_FOLDER, resolve
from analysis.types import NeuronId
from benchmarks.measure import finish, table

TEXT = "The old man shook his head and said that he had never seen the like of it. The old man shook his head and"
NEURONS = ("3.62", "3.543", "2.10")  # of the bundled model: two entropy neurons, and one that drives them
REFERENCE, LENGTH, NODES = 16, 128, 12


def main(name: str = BUNDLED, *neurons: str) -> None:
    """Each neuron at one token and over the text, checked edge by edge."""
    model = load(resolve(name))
    documents = (BUNDLED_FOLDER / "sample.jsonl").read_text("utf-8").splitlines()[:REFERENCE]
    rows = [model.encode(json.loads(line)["text"])[:LENGTH] for line in documents]
    *_, last = mean_writes(model, rows, source="the sample")
    assert last.result is not None
    ids = model.encode(TEXT)
    clean, found = read(model, ids, last.result), list[dict[str, object]]()
    for neuron in neurons or NEURONS:
        for position in (len(ids) - 1, None):
            began = time.process_time()
            drawn = circuit(clean, NeuronId.parse(neuron), position, most=NODES)
            *_, checked = check(clean, drawn)
            found.append(_told(neuron, position, checked) | {"processor_s": time.process_time() - began})
            print(json.dumps(found[-1]), flush=True)
    table(
        f"Shares against patched passes, {model.key}, {NODES} nodes split",
        ("neuron", "at", "edges", "Spearman", "sum of differences over sum of passes"),
        [[row[key] for key in ("neuron", "at", "edges", "spearman", "apart")] for row in found],
    )
    finish("circuits", {"model": model.key, "rows": found})


def _told(neuron: str, position: int | None, checked: Circuit) -> dict[str, object]:
    return {
        "neuron": neuron,
        "at": "all tokens" if position is None else f"token {position}",
        "edges": len(checked.edges),
        "spearman": checked.rank_correlation,
        "apart": checked.disagreement,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
