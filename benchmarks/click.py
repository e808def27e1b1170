"""From a click on a token to the table: every last-layer neuron, every column, temperatures of the rows shown."""

from __future__ import annotations

from typing import Any

import torch

from analysis.effects import Engine, effects, stream, temperature_share
from analysis.effects.stream import next_tokens
from analysis.kernels import choose
from analysis.kernels.choice import has_compiler
from benchmarks.measure import GPT2_SMALL, Size, demo_size, finish, random_layer, seconds, table

ROWS_SHOWN, POSITION = 50, 0


def measure(size: Size) -> dict[str, Any]:
    readout, last, counts, ids = random_layer(size, 8)
    engine = Engine.build(readout, unigram=counts, backend=choose("compiled" if has_compiler() else "eager", wait=True))
    baseline = torch.zeros(size.d_mlp)

    def two_conditions() -> None:
        list(stream(engine, last, next_tokens(ids), baseline=baseline, positions=[POSITION], ranks=True))

    def every_column() -> None:
        shown = effects(engine, last, ids, POSITION, baseline=baseline)
        best = shown.d_entropy.total.abs().topk(ROWS_SHOWN).indices
        temperature_share(engine, last, POSITION, shown.neurons[best].tolist(), shown.delta[best])

    return {
        "backend": engine.backend.name,
        "total_direct_ms": 1e3 * seconds(two_conditions, repeats=7),
        "every_column_ms": 1e3 * seconds(every_column, repeats=7),
    }


def main() -> None:
    torch.set_num_threads(2)
    result = {size.name: (size, measure(size)) for size in (GPT2_SMALL, demo_size())}
    table(
        "All last-layer neurons at one token, two cores",
        ["model", "neurons", "backend", "total and direct, ms", "every column, 50 temperatures, ms"],
        [
            [name, size.d_mlp, r["backend"], r["total_direct_ms"], r["every_column_ms"]]
            for name, (size, r) in result.items()
        ],
    )
    finish("click", {"threads": 2, "sizes": {name: r for name, (_, r) in result.items()}})


if __name__ == "__main__":
    main()
