"""Temperature share: how much of an ablation one rescaling of the clean logits explains (METHODS section 3).

    share = 1 - min_beta KL(softmax(beta z) ‖ P') / KL(P ‖ P'),    temperature = 1/beta

    KL(softmax(beta z) ‖ P') = beta E[z] - log Z(beta) - E[log P'],    E over softmax(beta z)

The expectations over softmax(beta z) serve every neuron at once, so a grid of betas costs one pass each, whatever the
number of neurons. There can be several local minima: the best grid point over [0.05, 20] is refined on a polynomial
through exact values around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects.ablation import ablation
from analysis.effects.clean import clean, exact
from analysis.effects.curve import Curves
from analysis.effects.engine import Engine
from analysis.kernels import Coefficients, Tile
from analysis.kernels.eager import combine
from analysis.trace import LastLayer

BETAS = np.geomspace(0.05, 20, 65)
"""The grid; its middle point is exactly 1."""
BETAS[len(BETAS) // 2] = 1.0

SMALLEST_KL = 1e-9
"""Below this many nats of KL(P ‖ P') there is nothing to explain."""

ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Temperature:
    """temperature: the best 1/beta; share: what it explains, at most 1; kl: KL(P ‖ P'). NaN where nothing changes."""

    temperature: Float[Tensor, " n"]
    share: Float[Tensor, " n"]
    kl: Float[Tensor, " n"]


def temperature_share(
    engine: Engine, last: LastLayer, position: int, neurons: Sequence[int], delta: Float[Tensor, " n"]
) -> Temperature:
    """For single ablations of a few neurons at one position, all in float64."""
    parts = [
        _share(engine, last, position, torch.tensor(list(neurons[i : i + ROWS_AT_ONCE])), delta[i : i + ROWS_AT_ONCE])
        for i in range(0, len(neurons), ROWS_AT_ONCE)
    ]
    return Temperature(*(torch.cat(column) for column in zip(*parts, strict=True)))


@torch.inference_mode()
def _share(
    engine: Engine, last: LastLayer, position: int, which: Tensor, delta: Float[Tensor, " n"]
) -> tuple[Tensor, Tensor, Tensor]:
    log_p, changed = _log_probs(engine, last, position, which, delta)
    return best_temperature(log_p, changed)


def _log_probs(
    engine: Engine, last: LastLayer, position: int, which: Tensor, delta: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " vocab"], Float[Tensor, "n vocab"]]:
    """log P and log P' of total ablations, float64."""
    start = clean(engine, last, torch.tensor([position]), torch.tensor([-1]))
    change = ablation(engine, start, engine.readout.W_out[which], delta[None])
    shift = change.shift(start, "total")
    assert shift.bases is not None
    tile = Tile(
        base=exact(start.pre),
        bases=exact(start.bases),
        rows=exact(engine.vocabulary_rows(which)),
        conditions=(Coefficients(bases=torch.stack(shift.bases), row=shift.row),),
        cap=engine.readout.soft_cap,
    )
    log_p = exact(engine.readout.cap(tile.base[0])).log_softmax(-1)
    return log_p, combine(tile, tile.conditions[0], 0, slice(0, len(which))).log_softmax(-1)


def best_temperature(
    log_p: Float[Tensor, " vocab"], changed: Float[Tensor, "n vocab"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """temperature, share and KL(P ‖ P') of each changed distribution, from log-probabilities in float64."""

    def divergence(betas: np.ndarray) -> np.ndarray:
        beta = torch.from_numpy(betas).to(log_p.device)
        weights = torch.outer(beta, log_p - top).exp_()  # softmax(beta z) Z(beta); one pass, and all else are products
        total = weights.sum(-1)
        expected = averaged @ weights.T / total
        log_total = total.log() + beta * top
        return np.asarray((beta * expected[-1] - log_total - expected[:-1]).cpu().numpy())

    top = log_p.max()
    averaged = torch.cat([changed, log_p[None].clamp_min(torch.finfo(torch.float64).min)])
    on_grid = divergence(BETAS)
    kl = (log_p.exp() * (log_p - changed)).sum(-1).clamp_min(0).cpu()
    best = on_grid.argmin(1)
    betas, left = BETAS[best], on_grid[np.arange(len(best)), best]
    for cell in np.unique(best):
        here = np.flatnonzero(best == cell)
        low, high = BETAS[max(cell - 1, 0)], BETAS[min(cell + 1, len(BETAS) - 1)]
        curves = Curves(divergence, low, high, tolerance=1e-13).of(here)
        if curves.converged:
            betas[here], left[here] = _lowest(np.linspace(low, high, 401), curves)
    share = 1 - torch.from_numpy(left).clamp_min(0) / kl
    undefined = kl < SMALLEST_KL
    return (1 / torch.from_numpy(betas)).masked_fill(undefined, torch.nan), share.masked_fill(undefined, torch.nan), kl


def _lowest(x: np.ndarray, curves: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Where each curve is lowest and how low: the lowest of the points, then Newton steps to where the slope is 0."""
    start = x[curves(x).argmin(1)]
    at = start
    for _ in range(4):
        slope, bend = curves.each(at, derivative=1), curves.each(at, derivative=2)
        at = at - np.divide(slope, bend, out=np.zeros_like(bend), where=bend > 0)
        at = at.clip(start - (x[1] - x[0]), start + (x[1] - x[0])).clip(x[0], x[-1])
    return at, np.minimum(curves.each(at), curves.each(start))
