"""What it takes to split every prediction of a prompt of 128 tokens: processor seconds on one thread, which is what two
cores take at most twice as fast. Means of the reference text (once a model) apart.

    python -m benchmarks.why [FOLDER or key of another model ...]
"""

from __future__ import annotations

import json
import sys
import time

import torch

from analysis.components import MeanWrites, mean_writes
from analysis.decompose import decompose
from analysis.lens import lens
from analysis.model import Model, load
from analysis.registry import BUNDLED, BUNDLED_FOLDER, resolve
from analysis.written import read
from benchmarks.measure import finish, table

LENGTH, REFERENCE, TOKENS = 128, 128, 2048


def main(*names: str) -> None:
    """A row a model."""
    rows = [_measured(load(resolve(name))) for name in names or (BUNDLED,)]
    table(
        f"Every prediction of a prompt of {LENGTH} tokens, processor seconds on one thread",
        (
            "model",
            f"means of {TOKENS} tokens (once)",
            "run and split",
            "per prediction, ms",
            "largest error, nats",
            "lens",
        ),
        [list(row.values()) for row in rows],
    )
    finish("why", {"rows": rows})


def _measured(model: Model) -> dict[str, object]:
    texts = [json.loads(line)["text"] for line in (BUNDLED_FOLDER / "sample.jsonl").read_text("utf-8").splitlines()]
    ids = model.encode(" ".join(texts[-6:]))[:LENGTH]
    rows = [model.encode(text)[:REFERENCE] for text in texts[: TOKENS // REFERENCE]]
    began = time.process_time()
    means: MeanWrites | None = None
    for progress in mean_writes(model, rows, source="the sample"):
        means = progress.result
    meant = time.process_time()
    split = list(decompose(model, read(model, ids), range(len(ids)), baseline=means))
    done = time.process_time()
    for _ in lens(model, ids):
        pass
    return {
        "model": model.key,
        "means": meant - began,
        "split": done - meant,
        "each": 1000 * (done - meant) / len(ids),
        "error": max(abs(one.error) for one in split),
        "lens": time.process_time() - done,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
