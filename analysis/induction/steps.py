"""Long work in steps: a generator that yields its progress after every batch and returns its result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from analysis.model import Model
from analysis.progress import Progress, Steps

T = TypeVar("T")


STEP_FLOPS = 2e10
"""Floating-point operations of one batch: about 0.3 s on one core, so that other requests find a gap."""

STEP_ELEMENTS = 1 << 25
"""Numbers one batch may hold in attention patterns or residual streams: 128 MiB in float32."""


def complete(steps: Steps[T]) -> T:
    """Run to the end and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


def part_of(steps: Steps[T], index: int, n_parts: int) -> Steps[T]:
    """The same work as one of ``n_parts`` equal ones: its progress counts in the whole."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        yield Progress(step.stage, index * step.total + step.done, n_parts * step.total)


def rows_per_batch(model: Model, n_positions: int) -> int:
    """How many rows of ``n_positions`` tokens one step takes."""
    matrices = 3 if model.gated else 2
    a_layer = 4 * model.d_model**2 + matrices * model.d_model * model.d_mlp
    parameters = model.n_layers * a_layer + model.d_model * model.d_vocab
    speed = 1 if model.device.type == "cpu" else 100
    by_work = speed * STEP_FLOPS / (2 * parameters * n_positions)
    by_memory = STEP_ELEMENTS / (n_positions * (model.n_heads * n_positions + 8 * model.d_mlp))
    return max(1, int(min(by_work, by_memory)))


def batches(model: Model, rows: Tensor, stage: str) -> Iterator[tuple[slice, Progress]]:
    """Slices of ``rows`` (row, pos), each with the progress to report once it is done."""
    size = rows_per_batch(model, rows.shape[1])
    total = -(-len(rows) // size)
    for done, start in enumerate(range(0, len(rows), size), start=1):
        yield slice(start, min(start + size, len(rows))), Progress(stage, done, total)


def seeded(seed: int) -> torch.Generator:
    """Random numbers that depend on the seed alone, whatever the device."""
    return torch.Generator().manual_seed(seed)
