"""Microseconds per (token, neuron, condition): ours against the straightforward algorithm of the paper, one core.

Side by side in one process on the same tokens and neurons, at GPT-2 Small's size and at the bundled model's; in the
core's own time.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from analysis.effects import Condition, Engine, next_tokens, stream
from analysis.kernels import Backend, choose
from analysis.kernels.choice import has_compiler
from analysis.readout import Readout
from analysis.trace import LastLayer
from benchmarks.measure import GPT2_SMALL, Size, demo_size, exp_ceiling, finish, random_layer, seconds, table

N_POSITIONS, PAPER_CHUNK = 2, 20
BOTH: tuple[Condition, ...] = ("total", "direct")


@torch.inference_mode()
def paper(readout: Readout, last: LastLayer, ids: list[int], n: int) -> tuple[list[float], list[float]]:
    """Entropy and loss after zeroing each of ``n`` neurons at position 0, total then frozen, 20 at a time."""
    x, target = last.resid[0], ids[1]
    s = readout.scale(x)
    entropies, losses = [], []
    for frozen in (False, True):
        for start in range(0, n, PAPER_CHUNK):
            rows = slice(start, min(start + PAPER_CHUNK, n))
            changed = x - last.activations[0, rows, None] * readout.W_out[rows]
            scale = s.expand(len(changed)) if frozen else readout.scale(changed)
            logits = (readout.centre(changed) / scale[:, None]) @ readout.W_U + readout.b_U
            p, log_p = logits.softmax(-1), logits.log_softmax(-1)
            entropies += (-(p * log_p).sum(-1)).tolist()
            losses += (-log_p[:, target]).tolist()
    return entropies, losses


def ours(engine: Engine, last: LastLayer, ids: list[int], conditions: tuple[Condition, ...], ranks: bool) -> list[Any]:
    return list(
        stream(
            engine,
            last,
            next_tokens(ids),
            baseline=torch.zeros(engine.readout.d_mlp),
            conditions=conditions,
            ranks=ranks,
        )
    )


def measure(size: Size, ceiling: float) -> dict[str, Any]:
    readout, last, counts, ids = random_layer(size, N_POSITIONS)
    work = N_POSITIONS * size.d_mlp
    few = 2 * PAPER_CHUNK
    reference = seconds(lambda: paper(readout, last, ids, few), repeats=3, clock=time.process_time) / (few * 2) * 1e6
    rows, result = [("the paper's algorithm", reference, 1.0, None, None)], {"paper_us": reference}
    backends: list[Backend] = [choose("eager")] + ([choose("compiled", wait=True)] if has_compiler() else [])
    kinds: list[tuple[str, tuple[Condition, ...], bool]] = [
        ("total, direct", BOTH, False),
        ("total, direct, with rank and argmax", BOTH, True),
        ("total, direct, frequency, with rank and argmax", (*BOTH, "frequency"), True),
    ]
    built = Engine.build(readout, unigram=counts, backend="eager")
    for backend in backends:
        engine = replace(built, backend=backend)
        for name, conditions, ranks in kinds:
            taken = seconds(
                lambda e=engine, c=conditions, r=ranks: ours(e, last, ids, c, r), repeats=3, clock=time.process_time
            )
            each = taken / (work * len(conditions)) * 1e6
            rate = size.d_vocab / each * 1e6
            error = _error(engine, readout, last, ids, few) if conditions == BOTH and not ranks else None
            rows.append((f"{backend.name}: {name}", each, reference / each, rate / ceiling, error))
            result[f"{backend.name}_{len(conditions)}{'_ranks' if ranks else ''}"] = {
                "us": each,
                "times_faster": reference / each,
                "exp_per_s": rate,
                "of_ceiling": rate / ceiling,
            }
    table(
        f"{size.name} (d {size.d_model}, V {size.d_vocab}), one core",
        [
            "algorithm",
            "µs per (token, neuron, condition)",
            "times faster",
            "of the exp ceiling",
            "largest error (nats)",
        ],
        [[cell if cell is not None else "" for cell in row] for row in rows],
    )
    return result


def _error(engine: Engine, readout: Readout, last: LastLayer, ids: list[int], few: int) -> float:
    """The largest difference of entropy or loss from the paper's algorithm in float64."""
    wide = replace(readout, **{name: getattr(readout, name).double() for name in ("W_U", "b_U", "W_out")})
    exact = LastLayer(last.resid.double(), last.activations.double())
    entropies, losses = paper(wide, exact, ids, few)
    block = ours(engine, last, ids, BOTH, False)[0]
    clean = block.clean
    worst = 0.0
    for index, condition in enumerate(BOTH):
        outcome, n = block.outcomes[condition], min(few, len(block.neurons))
        expected_h = torch.tensor(entropies[index * few : index * few + n]) - clean.entropy[0]
        expected_l = torch.tensor(losses[index * few : index * few + n]) - clean.loss[0]
        worst = max(worst, float((outcome.d_entropy[0, :n] - expected_h).abs().max()))
        worst = max(worst, float((outcome.d_loss[0, :n] - expected_l).abs().max()))
    return worst


def main() -> None:
    torch.set_num_threads(1)
    ceiling = exp_ceiling()
    print(f"Ceiling: {ceiling:.3g} exponentials a second (torch.exp over an array in the cache).")
    result = {size.name: measure(size, ceiling) for size in (GPT2_SMALL, demo_size())}
    finish("kernels", {"threads": 1, "exp_ceiling_per_s": ceiling, "sizes": result})


if __name__ == "__main__":
    main()
