"""Effects of many neurons at many positions, block by block: the heat map and the corpus sweeps.

Positions are taken in chunks and neurons in blocks whose rows m stay in the cache while the chunk's positions use them.
What is held at once stays within the engine's memory budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import interrupt
from analysis.effects.ablation import Condition, ablation
from analysis.effects.clean import Clean, clean
from analysis.effects.engine import Engine
from analysis.effects.ln_only import LnOnly
from analysis.effects.outcome import Outcome, capped_functionals, outcomes
from analysis.trace import LastLayer
from analysis.types import Baseline, InputError, reference_not_ready

Baselines = Float[Tensor, " d_mlp"]
"""The activation that each last-layer neuron is ablated to."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some neurons at some positions. ``neurons`` are indices in the last layer, every array is (pos, n)."""

    positions: Int[Tensor, " pos"]
    neurons: Int[Tensor, " n"]
    delta: Float[Tensor, "pos n"]
    ln_scale_after: Float[Tensor, "pos n"]
    outcomes: dict[Condition, Outcome]
    clean: Clean


def baseline_values(
    baseline: Baseline,
    activations: Float[Tensor, "pos d_mlp"],
    mean: Float[Tensor, " d_mlp"] | None = None,
    *,
    skip: int = 0,
) -> Baselines:
    """The activation that each last-layer neuron is ablated to. mean: the model's reference means of that layer. skip:
    first positions that the mean over the prompt leaves out (`analysis.sinks`)."""
    if baseline == "mean":
        if mean is None:
            raise reference_not_ready()
        return mean.to(activations)
    if baseline == "prompt_mean":
        return activations[skip:].mean(0)
    if baseline == "zero":
        return torch.zeros_like(activations[0])
    return torch.full_like(activations[0], float(baseline))


def next_tokens(token_ids: Sequence[int]) -> Int[Tensor, " pos"]:
    """The target of every position of one text; -1 at the last."""
    return torch.tensor([*token_ids[1:], -1])


def stream(
    engine: Engine,
    last: LastLayer,
    targets: Int[Tensor, " pos"],
    *,
    baseline: Float[Tensor, " d_mlp"],
    positions: Sequence[int] | Int[Tensor, " some"] | None = None,
    neurons: Sequence[int] | None = None,
    conditions: tuple[Condition, ...] = ("total", "direct"),
    ranks: bool = False,
) -> Iterator[Block]:
    """Ablate each neuron alone at each position, and measure there.

    last: the rows of any number of texts, joined; targets: the token that follows each row, -1 where none does.
    positions: rows to work on (default all). neurons: last-layer indices (default all). ranks: also whether the top
    token changes and how the reciprocal rank of the target does (not under ln_only). Blocks come chunk of positions by
    block of neurons.
    """
    where = torch.arange(len(targets)) if positions is None else torch.as_tensor(positions)
    which = torch.arange(engine.readout.d_mlp) if neurons is None else torch.as_tensor(list(neurons))
    if len(which) and int(which.max()) >= engine.readout.d_mlp:
        raise InputError(f"The last layer has {engine.readout.d_mlp} neurons; there is no {int(which.max())}.")
    if engine.unigram is None and "frequency" in conditions:
        raise InputError("The frequency condition needs token counts.", code="no_counts")
    for chunk in torch.split(where, engine.positions_per_chunk):
        with torch.inference_mode():
            start = clean(engine, last, chunk, targets[chunk])
        yield from blocks(engine, last, start, chunk, which, baseline, conditions, ranks=ranks)


def blocks(
    engine: Engine,
    last: LastLayer,
    start: Clean,
    chunk: Int[Tensor, " pos"],
    which: Int[Tensor, " n"],
    baseline: Float[Tensor, " d_mlp"],
    conditions: tuple[Condition, ...],
    *,
    ranks: bool,
) -> Iterator[Block]:
    """`stream` at the positions of one clean run ``start``."""
    with torch.inference_mode():
        functionals = None if engine.readout.soft_cap is None else capped_functionals(engine, start)
        ln_only = LnOnly(engine.readout, start, functionals)
        contiguous = len(which) == engine.readout.d_mlp and bool((which.diff() == 1).all())
    for block in torch.split(which, engine.rows_per_block(len(chunk))):
        interrupt.check()
        with torch.inference_mode():
            made = _block(engine, start, ln_only, last, chunk, block, baseline, conditions, ranks, contiguous)
        yield made


def _block(
    engine: Engine,
    start: Clean,
    ln_only: LnOnly,
    last: LastLayer,
    chunk: Int[Tensor, " pos"],
    block: Int[Tensor, " n"],
    baseline: Float[Tensor, " d_mlp"],
    conditions: tuple[Condition, ...],
    ranks: bool,
    contiguous: bool,
) -> Block:
    which = slice(int(block[0]), int(block[-1]) + 1) if contiguous else block
    delta = baseline[which] - last.activations[chunk][:, which]
    change = ablation(engine, start, engine.readout.W_out[which], delta)
    made = outcomes(engine, start, change, engine.vocabulary_rows(which), conditions, ranks=ranks, ln_only=ln_only)
    return Block(chunk, block, change.delta, change.after, made, start)
