"""Ablations as scalars: for each (position, neuron) the coefficients of ``kernels.Tile`` under each condition.

total       both norms follow the change
direct      the final LN scale is frozen (a norm behind the MLP is still recomputed)
frozen      the scales of both norms are frozen; differs from direct only where a norm stands behind the MLP
ln_only     only the final LN scale changes
frequency   total, with the logits' component along the frequency direction put back (METHODS section 4)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects.clean import Clean, exact
from analysis.effects.engine import Engine

Condition = Literal["total", "direct", "frozen", "ln_only", "frequency"]


@dataclass(frozen=True, slots=True)
class Shift:
    """How one condition moves the logits before any cap: sum_b bases[b] W_Uᵀ(parts[b]) + row m, all float64.

    bases: one (pos, n) tensor for each of the clean run's bases, or None; row: (pos, n), or None.
    """

    bases: tuple[Float[Tensor, "pos n"], ...] | None
    row: Float[Tensor, "pos n"] | None


@dataclass(frozen=True, slots=True)
class Ablation:
    """Write vectors moved by ``delta`` at each position. after: the LN scale s'. seen: g w (w in the plain case)."""

    delta: Float[Tensor, "pos n"]
    seen: Float[Tensor, "n d_model"]
    after: Float[Tensor, "pos n"]
    post: Float[Tensor, "pos n"] | None
    """r', the scale of the norm behind the MLP, where there is one."""

    def shift(self, clean: Clean, condition: Condition) -> Shift:
        s, r = clean.s[:, None], clean.r[:, None]
        after = s if condition in ("direct", "frozen") else self.after
        post = r if condition in ("ln_only", "frozen") or self.post is None else self.post
        bases: tuple[Tensor, ...] | None = (1 / after - 1 / s,)
        if condition == "frozen":
            bases = None
        elif self.post is not None:
            bases = (1 / after - 1 / s, 1 / (after * post) - 1 / (s * r))
            bases = tuple(b.expand_as(self.delta) for b in bases)
        elif condition == "direct":
            bases = None
        return Shift(bases, None if condition == "ln_only" else self.delta / (after * post))


def ablation(
    engine: Engine, clean: Clean, write: Float[Tensor, "n d_model"], delta: Float[Tensor, "pos n"]
) -> Ablation:
    """Both norms' scales after ``delta`` times each write vector, from dot products in float64."""
    readout = engine.readout
    w, delta = exact(write), exact(delta)
    seen = exact(engine.seen(w))
    d = w.shape[1]
    post = None
    if clean.u is None or readout.post_norm is None:
        square = _square(clean.A, seen, delta)
    else:
        post = (clean.r[:, None] ** 2 + (2 * delta * (clean.u @ w.T) + delta**2 * (w * w).sum(-1)) / d).sqrt()
        assert clean.B is not None
        cross = (clean.A * clean.B).sum(-1)[:, None] + delta * (clean.A @ seen.T)
        square = (clean.A * clean.A).sum(-1)[:, None] + 2 * cross / post + _square(clean.B, seen, delta) / post**2
    if readout.fixed_scale is not None:
        after = torch.full_like(delta, readout.fixed_scale)
    else:
        after = (square.clamp_min(0) / d + readout.eps).sqrt()
    return Ablation(delta, seen, after, post)


def _square(
    x: Float[Tensor, "pos d"], w: Float[Tensor, "n d"], delta: Float[Tensor, "pos n"]
) -> Float[Tensor, "pos n"]:
    """‖x + delta w‖²."""
    return (x * x).sum(-1)[:, None] + 2 * delta * (x @ w.T) + delta**2 * (w * w).sum(-1)


def moved(
    clean: Clean, ablation: Ablation, shift: Shift, vector: Float[Tensor, "*pos d_model"]
) -> Float[Tensor, "pos n"]:
    """f · (z' - z) of uncapped logits for a vocabulary vector f, given ``vector`` = W_U f (one, or one a position)."""
    vector = vector.expand_as(clean.A)
    total = torch.zeros_like(ablation.delta)
    if shift.bases is not None:
        parts = [part for part in (clean.A, clean.B) if part is not None]
        for coefficient, part in zip(shift.bases, parts, strict=True):
            total = total + coefficient * (part * vector).sum(-1)[:, None]
    return total if shift.row is None else total + shift.row * (vector @ ablation.seen.T)
