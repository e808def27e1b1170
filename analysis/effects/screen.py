"""Which last-layer neurons change the entropy most at one position, without a pass over the vocabulary for each.

Ablating neuron i moves the logits by D_v = sum_b kappa_b y_b,v + c m_v (METHODS section 3). Over the most probable
tokens, the head, its sums are taken exactly; over the others, the tail, to first order: products with d_model entries.

    Z = sum_head p e^D + sum_tail p (1 + D) + R_Z           0 <= R_Z <= e^M S / 2
    N = sum_head p e^D (q + D) + sum_tail p (q + D (q + 1)) + R_N    |R_N| <= e^M S (max|q| + M + 2) / 2
    H' = log Z - N / Z,         q = log p, M >= max_tail |D|, S >= sum_tail p D²

with sum_tail p m² <= max_tail p · sum_tail m². A neuron whose bound leaves it below the n-th largest certain |dH| is
none of the n largest; the others are looked at again with a longer head, and what is left gets its exact pass. So the
n largest are those of the whole table.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.effects.ablation import Ablation, ablation
from analysis.effects.clean import Clean, exact
from analysis.effects.engine import Engine

HEADS = (512, 4096)
"""Tokens in the head, one look after another."""

ROUNDINGS = 256
"""Of the format, on the largest term of a sum: more than any sum over a head loses."""


@torch.inference_mode()
def largest(engine: Engine, start: Clean, delta: Float[Tensor, " d_mlp"], n: int) -> Int[Tensor, " some"]:
    """Last-layer neurons among which are the ``n`` with the largest change of entropy at the one position of ``start``.

    All of them where logits are capped (no first-order sums) or rows are not kept.
    """
    which = torch.arange(len(delta))
    if engine.rows is None or engine.readout.soft_cap is not None or HEADS[0] >= engine.readout.d_vocab:
        return which
    screen = Screen(engine, start, delta)
    for head in HEADS:
        if head >= engine.readout.d_vocab or len(which) <= n:
            break
        estimate, bound = screen.look(which, head)
        certain = (estimate.abs() - bound).topk(n).values[-1]
        which = which[(estimate.abs() + bound >= certain).to(which.device)]
    return which


class Screen:
    """The change of entropy by each last-layer neuron at the one position of ``start``, roughly."""

    def __init__(self, engine: Engine, start: Clean, delta: Float[Tensor, " d_mlp"]) -> None:
        change = ablation(engine, start, engine.readout.W_out, delta[None])
        shift = change.shift(start, "total")
        assert shift.bases is not None
        assert shift.row is not None
        self._engine, self._start = engine, start
        self._kappa, self._c = [part[0] for part in shift.bases], shift.row[0]
        self._pq = start.p[0] * start.pre[0]
        self._first = self._products(change, start.at_p[0])
        self._first_q = self._products(change, exact(engine.readout.W_U @ self._pq))

    def _products(self, change: Ablation, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " n"]:
        """Each neuron's D summed over the vocabulary, ``vector`` being W_U times the weights."""
        total = self._c * (change.seen @ vector)
        for k, part in zip(self._kappa, (self._start.A, self._start.B), strict=False):
            assert part is not None
            total = total + k * (part[0] @ vector)
        return total

    def look(self, which: Int[Tensor, " n"], head: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """dH of some neurons in nats, and how far the exact one may lie from it; 0 and infinity where sums overflow."""
        engine, start = self._engine, self._start
        assert engine.rows is not None
        assert engine.row_squares is not None
        assert engine.row_peaks is not None
        p, q, pq, bases = start.p[0], start.pre[0], self._pq, start.bases[:, 0]
        top = p.topk(head + 1)
        ids, seldom = top.indices[:head], exact(top.values[head])  # no token of the tail is more probable
        everything = len(which) == len(engine.rows)
        kappa, c = [k[which] for k in self._kappa], self._c[which]

        m = (engine.rows if everything else engine.rows[which]).index_select(1, ids)
        D = c.to(m)[:, None] * m
        for k, base in zip(kappa, bases, strict=True):
            D += k.to(m)[:, None] * base[ids]
        mass = p[ids] * D.exp()
        at_head = exact(mass.sum(-1))
        first = self._first[which] - exact(D @ p[ids])
        first_q = self._first_q[which] - exact(D @ pq[ids])
        rest, rest_q = (1 - exact(p[ids]).sum()).clamp_min(0), exact(pq).sum() - exact(pq[ids]).sum()
        Z = torch.maximum(at_head + rest + first, at_head)
        N = exact((mass * (q[ids] + D)).sum(-1)) + rest_q + first_q + first

        squares = (exact(engine.row_squares[which]) - exact(m.square().sum(-1))).clamp_min(0) * seldom
        S, M = c.abs() * squares.sqrt(), c.abs() * exact(engine.row_peaks[which])
        for k, base in zip(kappa, bases, strict=True):
            tail = exact(base.index_fill(0, ids, 0))
            S = S + k.abs() * (exact(p) @ tail.square()).sqrt()
            M = M + k.abs() * tail.abs().amax()
        left_Z = M.exp() * S.square() / 2
        left_N = left_Z * (exact(q.index_fill(0, ids, 0)).abs().amax() + M + 2)
        terms = (1 + exact(D.abs().amax(-1))) * (1 + exact(q[ids].abs().amax()))
        rounding = ROUNDINGS * torch.finfo(m.dtype).eps * terms
        estimate = Z.log() - N / Z - start.entropy[0]
        bound = (left_Z + left_N) / Z + N.abs() * left_Z / Z**2 + rounding
        unknown = ~(estimate.isfinite() & bound.isfinite())
        return estimate.masked_fill(unknown, 0.0), bound.masked_fill(unknown, torch.inf)
