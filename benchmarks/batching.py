"""Are several people's small traces faster as one padded batch than one after the other, and are they the same bits?"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.model import Model
from analysis.trace import trace
from benchmarks.measure import finish, seconds, table
from benchmarks.trace import demo, gpt2_small

PEOPLE = 8
LENGTHS = (8, 16, 32, 64)


def prompts(model: Model, longest: int) -> list[list[int]]:
    """Of different people: between half and the whole of the longest."""
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(longest // 2, longest + 1, (PEOPLE,), generator=g).tolist()
    return [torch.randint(5, model.n_tokens, (size,), generator=g).tolist() for size in sizes]


def resid(model: Model, rows: list[list[int]]) -> Tensor:
    """The last residual stream; rows padded on the right, where causal attention never looks."""
    longest, name = max(map(len, rows)), f"blocks.{model.last_layer}.hook_resid_post"
    return model.run(torch.tensor([row + [0] * (longest - len(row)) for row in rows]), capture=(name,))[name]


@torch.inference_mode()
def measure(name: str, model: Model, repeats: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for length in LENGTHS:
        rows = prompts(model, length)
        alone = seconds(lambda: [resid(model, [row]) for row in rows], repeats=repeats) / PEOPLE  # noqa: B023
        batched = seconds(lambda: resid(model, rows), repeats=repeats) / PEOPLE  # noqa: B023
        whole = seconds(lambda: [trace(model, row) for row in rows], repeats=repeats) / PEOPLE  # noqa: B023
        together = resid(model, rows)
        same = sum(torch.equal(together[i, : len(row)], resid(model, [row])[0]) for i, row in enumerate(rows))
        found.append({"model": name, "longest": length, "alone_ms": 1e3 * alone, "batched_ms": 1e3 * batched,
                      "trace_ms": 1e3 * whole, "same_bits": same})  # fmt: skip
    return found


def main() -> None:
    torch.set_num_threads(1)
    found = [*measure("the bundled model", demo()[0], 5), *measure("GPT-2 Small's size", gpt2_small()[0], 2)]
    header = ("model", "longest prompt, tokens", "forward alone, ms", "in a batch, ms", "whole trace alone, ms",
              f"same bits, of {PEOPLE}")  # fmt: skip
    table(f"A prompt's share of {PEOPLE} people's traces, one core", header, [list(row.values()) for row in found])
    finish("batching", {"people": PEOPLE, "rows": found})


if __name__ == "__main__":
    main()
