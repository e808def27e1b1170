"""What is measured at every (token, neuron), and how it is summed.

A measure is a signed or absolute change, intervened minus clean, of one quantity under one condition. Sums and sums of
squares are float64, so shards merge without loss; per-row sums are kept of the measures that get bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects import Condition, Outcome

CONDITIONS: tuple[Condition, ...] = ("total", "direct", "frequency", "frozen")
"""total; LN scale frozen; frequency component frozen (left out without token counts); the scale of the norm behind the
MLP frozen as well (left out where there is none)."""

MEASURES = (
    "abs_loss", "loss", "abs_entropy", "entropy", "abs_kl_unigram", "kl_unigram", "reciprocal_rank", "top1_changes"
)  # fmt: skip

BOOTSTRAPPED = (
    *(("total", measure) for measure in MEASURES),
    *(
        (condition, measure)
        for condition in ("direct", "frequency", "frozen")
        for measure in ("abs_loss", "abs_entropy")
    ),
    ("frequency", "abs_kl_unigram"),
)
"""The (condition, measure) pairs with an interval: TE, DE and what is shown of the rest."""

EXAMPLE_LISTS = (
    ("activation", 1), ("activation", -1), ("entropy", 1), ("entropy", -1), ("loss", 1), ("loss", -1)
)  # fmt: skip
"""Top examples: by activation, by total effect on entropy and on loss; either sign."""

SAMPLED = (
    "activation", "total.entropy", "total.loss", "total.kl_unigram", "direct.entropy", "direct.loss", "frequency.loss"
)  # fmt: skip
"""What is kept of the drawn tokens, one number a neuron."""

CLEAN = ("entropy", "loss", "kl_unigram", "ln_scale")


def conditions_of(has_counts: bool, behind_mlp: bool) -> tuple[Condition, ...]:
    """behind_mlp: whether a norm stands there."""
    left_out = {"frequency": not has_counts, "frozen": not behind_mlp}
    return tuple(condition for condition in CONDITIONS if not left_out.get(condition, False))


def measure(outcome: Outcome) -> Float[Tensor, "measure pos n"]:
    """The measures of one condition in the order of MEASURES; NaN where there are no token counts."""
    missing = torch.full_like(outcome.d_entropy, torch.nan)
    kl = missing if outcome.d_kl_unigram is None else outcome.d_kl_unigram
    rank = missing if outcome.d_reciprocal_rank is None else outcome.d_reciprocal_rank
    changes = missing if outcome.top1_changes is None else outcome.top1_changes.to(outcome.d_entropy)
    parts = (
        outcome.d_loss.abs(),
        outcome.d_loss,
        outcome.d_entropy.abs(),
        outcome.d_entropy,
        kl.abs(),
        kl,
        rank,
        changes,
    )
    return torch.stack(parts)


def sampled(
    activations: Float[Tensor, "pos n"], values: Mapping[Condition, Float[Tensor, "measure pos n"]]
) -> Float[Tensor, "field pos n"]:
    """The fields of SAMPLED; NaN for a condition that was not computed."""
    fields, by_name = [activations.double()], {str(name): found for name, found in values.items()}
    for name in SAMPLED[1:]:
        condition, _, quantity = name.partition(".")
        found = by_name.get(condition)
        fields.append(torch.full_like(fields[0], torch.nan) if found is None else found[MEASURES.index(quantity)])
    return torch.stack(fields)


def boot_index(conditions: tuple[Condition, ...]) -> list[tuple[int, int]]:
    """BOOTSTRAPPED as indices into (condition, measure), for the conditions that were computed."""
    return [
        (conditions.index(condition), MEASURES.index(name))
        for condition, name in BOOTSTRAPPED
        if condition in conditions
    ]


class Extremes:
    """The k largest values a neuron, with where they were found; ties go to the earlier token."""

    def __init__(self, k: int, n: int) -> None:
        self.values = np.full((k, n), -np.inf)
        self.rows = np.full((k, n), -1, dtype=np.int32)
        self.positions = np.full((k, n), -1, dtype=np.int32)

    def add(self, values: np.ndarray, rows: np.ndarray, positions: np.ndarray) -> None:
        """values (m, n); rows, positions (m, n) or (m, 1), later in the corpus than everything added before."""
        k = len(self.values)
        better = values.max(0) > self.values[-1]
        if not better.any():
            return
        which = better.nonzero()[0]
        every = np.concatenate([self.values[:, which], values[:, which]])
        order = np.argsort(-every, axis=0, kind="stable")[:k]
        self.values[:, which] = np.take_along_axis(every, order, 0)
        for mine, new in ((self.rows, rows), (self.positions, positions)):
            joined = np.concatenate([mine[:, which], np.broadcast_to(new, values.shape)[:, which]])
            mine[:, which] = np.take_along_axis(joined, order, 0)
