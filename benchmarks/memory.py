"""Peak memory of the effects beside the model, against the budget that the setting names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from analysis.effects import Engine, next_tokens, stream
from benchmarks.measure import GPT2_SMALL, finish, random_layer, table

BUDGETS = (64 << 20, 256 << 20, 1536 << 20)
N_POSITIONS = 8


def held(field: str) -> int:
    """Memory that this process holds (VmRSS) or has held at most (VmHWM), bytes. Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def one(budget: int) -> dict[str, int | bool]:
    """All neurons at a few positions under one budget, in this process."""
    torch.set_num_threads(1)
    readout, last, counts, ids = random_layer(GPT2_SMALL, N_POSITIONS)
    readout.W_U @ torch.zeros(GPT2_SMALL.d_vocab)  # the libraries' own buffers
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    engine = Engine.build(readout, unigram=counts, memory_bytes=budget, backend="eager")
    blocks = stream(engine, last, next_tokens(ids), baseline=torch.zeros(GPT2_SMALL.d_mlp))
    for number, _ in enumerate(blocks):
        if number == 3:  # later blocks only repeat
            break
    return {"budget": budget, "used": held("VmHWM") - before, "rows_kept": engine.rows is not None}


def main() -> None:
    if len(sys.argv) == 2:
        print(json.dumps(one(int(sys.argv[1]))))
        return
    runs = []
    for budget in BUDGETS:  # a process each: a peak never comes down
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", str(budget)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    table(
        f"Peak memory of effects beside the model ({GPT2_SMALL.name})",
        ["budget, MiB", "used, MiB", "rows m kept"],
        [[run["budget"] >> 20, run["used"] >> 20, "yes" if run["rows_kept"] else "no"] for run in runs],
    )
    finish("memory", {"runs": runs})


if __name__ == "__main__":
    main()
