"""What the benchmarks share: timing, the machine's own ceiling, tables, models of a given size."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis.frequency import Unigram, unigram
from analysis.readout import Readout, fold
from analysis.trace import LastLayer

DEMO = Path(__file__).resolve().parent.parent / "models" / "demo"


@dataclass(frozen=True)
class Size:
    """The shape of a last layer."""

    name: str
    d_model: int
    d_mlp: int
    d_vocab: int


GPT2_SMALL = Size("GPT-2 Small's size", 768, 3072, 50257)


def demo_size() -> Size:
    """The bundled model's shape, from its config."""
    config = json.loads((DEMO / "config.json").read_text())
    d_mlp = config.get("n_inner") or 4 * config["n_embd"]
    return Size("the bundled model's size", config["n_embd"], d_mlp, config["vocab_size"])


def seconds(
    run: Callable[[], Any], *, repeats: int = 5, warm: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The shortest of some runs: the machine's noise only ever adds.

    clock: ``time.process_time`` for what one core does, so that waiting for a turn on a shared machine does not count.
    """
    for _ in range(warm):
        run()
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        run()
        best = min(best, clock() - start)
    return best


def exp_ceiling() -> float:
    """Exponentials a second: a tight loop of torch's vectorised exp over an array that stays in the cache."""
    best = 0.0
    for n in (4096, 16384, 65536):
        x, out = torch.randn(n), torch.empty(n)
        loops = (1 << 23) // n

        def loop(x: Tensor = x, out: Tensor = out, loops: int = loops) -> None:
            for _ in range(loops):
                torch.exp(x, out=out)

        best = max(best, loops * n / seconds(loop, clock=time.process_time))
    return best


def random_layer(size: Size, n_positions: int) -> tuple[Readout, LastLayer, Unigram, list[int]]:
    """A readout with random weights, a run through it and token counts: logits and effects of realistic size."""
    g = torch.Generator().manual_seed(0)
    readout = fold(
        W_U=torch.randn(size.d_model, size.d_vocab, generator=g) * 3 / size.d_model**0.5,
        b_U=torch.randn(size.d_vocab, generator=g),
        W_out=torch.randn(size.d_mlp, size.d_model, generator=g) * 4 / size.d_model**0.5,
        gain=torch.ones(size.d_model),
        bias=None,
        eps=1e-5,
        layer_norm=True,
    )
    last = LastLayer(
        5 * torch.randn(n_positions, size.d_model, generator=g), torch.randn(n_positions, size.d_mlp, generator=g)
    )
    counts = unigram((torch.arange(size.d_vocab) + 1).flip(0) ** 2, d_vocab=size.d_vocab, source="made up")
    return readout, last, counts, torch.randint(size.d_vocab, (n_positions,), generator=g).tolist()


def machine() -> dict[str, Any]:
    """What it was measured on."""
    cpu = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.exists():
        names = [
            line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {"cpu": cpu, "capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table, which is also what a terminal shows."""
    print(f"\n{title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) + " |")


def finish(name: str, result: dict[str, Any]) -> None:
    """The last line."""
    print()
    print(json.dumps({"benchmark": name, **machine(), **result}))
