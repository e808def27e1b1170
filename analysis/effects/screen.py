"""Which last-layer neurons change the entropy most at one position, without a pass over the vocabulary for each.

Ablating neuron i moves the logits by D_v = sum_b kappa_b y_b,v + c m_v (METHODS section 3). Over the most probable
tokens, the head, its sums are taken exactly; over the others, the tail, to first order: products with d_model entries.

    Z = sum_head p e^D + sum_tail p (1 + D) + R_Z           0 <= R_Z <= sum_g e^M_g S_g / 2
    N = sum_head p e^D (q + D) + sum_tail p (q + D (q + 1)) + R_N    |R_N| <= sum_g e^M_g S_g (max_g|q| + M_g + 2) / 2
    H' = log Z - N / Z,         q = log p, over groups g of the tail: M_g >= max_g |D|, S_g >= sum_g p D²

with sum_g p m² <= max_g p · sum_g m², the last factor known beforehand (`Engine.row_squares`); most groups have no
token that is probable at all. Those that look largest get their exact pass, one each over the vocabulary. A neuron
whose bound leaves it below the n-th largest of them is none of the n largest; the others are looked at again with a
longer head, and what is left gets its exact pass too. So the n largest are those of the whole table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.effects.ablation import Ablation, ablation
from analysis.effects.clean import Clean, exact
from analysis.effects.engine import Engine, groups_of

LOOKS = ((64, False), (512, True))
"""Tokens in the head, one look after another, and whether M is of each group or of the whole tail."""

ROUNDINGS = 256
"""Of the format, on the largest term of a sum: more than any sum over a head loses."""


LIKELY = 4
"""So many more than were asked for get their exact pass after the first look: a larger n-th leaves fewer neurons."""

Exactly = Callable[[Int[Tensor, " some"]], Float[Tensor, " some"]]
"""dH of some neurons by a pass over the vocabulary for each."""


@torch.inference_mode()
def largest(
    engine: Engine, start: Clean, delta: Float[Tensor, " d_mlp"], n: int, exactly: Exactly
) -> Int[Tensor, " n"]:
    """The ``n`` last-layer neurons with the largest change of entropy at the one position of ``start``, whose
    `at_log_p` is there; in falling order.

    Every one gets its exact pass where logits are capped (no first-order sums) or rows are not kept.
    """
    left, known = torch.arange(len(delta)), torch.full((len(delta),), -torch.inf, dtype=torch.float64)
    if engine.rows is not None and engine.readout.soft_cap is None:
        screen = Screen(engine, start, delta)
        for head, by_group in LOOKS:
            if head >= engine.readout.d_vocab or len(left) <= n + LIKELY:
                break
            estimate, bound = (part.cpu() for part in screen.look(left, head, by_group=by_group))
            if len(left) == len(delta):
                likely = estimate.abs().topk(n + LIKELY).indices
                known[likely] = exactly(likely).abs().cpu()
            left = left[(estimate.abs() + bound >= known.topk(n).values[-1]) & (known[left] < 0)]
    if len(left):
        known[left] = exactly(left).abs().cpu()
    return known.sort(descending=True, stable=True).indices[:n]


@dataclass(frozen=True, slots=True)
class Tail:
    """What is less probable than the head: of each group the largest p and |q|, of each base of the logits the largest
    magnitude and sum p y²."""

    p: Float[Tensor, " group"]
    q: Float[Tensor, " group"]
    peaks: Float[Tensor, "b group"]
    squares: Float[Tensor, "b group"]

    @classmethod
    def of(cls, start: Clean, head: Int[Tensor, " head"]) -> Tail:
        def tail(x: Tensor) -> Tensor:
            return groups_of(x.index_fill(-1, head, 0))

        p, bases = start.p[0], start.bases[:, 0]
        return cls(
            tail(p).amax(-1),
            tail(start.pre[0]).abs().amax(-1),
            tail(bases).abs().amax(-1),
            tail(p * bases.square()).sum(-1),
        )


class Screen:
    """The change of entropy by each last-layer neuron at the one position of ``start``, roughly."""

    def __init__(self, engine: Engine, start: Clean, delta: Float[Tensor, " d_mlp"]) -> None:
        change = ablation(engine, start, engine.readout.W_out, delta[None])
        shift = change.shift(start, "total")
        assert shift.bases is not None
        assert shift.row is not None
        assert start.at_log_p is not None
        self._engine, self._start = engine, start
        self._kappa, self._c = [part[0] for part in shift.bases], shift.row[0]
        self._pq = start.p[0] * start.pre[0]
        self._first = self._products(change, start.at_p[0])
        self._first_q = self._products(change, start.at_log_p[0])

    def _products(self, change: Ablation, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " n"]:
        """Each neuron's D summed over the vocabulary, ``vector`` being W_U times the weights."""
        total = self._c * (change.seen @ vector)
        for k, part in zip(self._kappa, (self._start.A, self._start.B), strict=False):
            assert part is not None
            total = total + k * (part[0] @ vector)
        return total

    def look(
        self, which: Int[Tensor, " n"], head: int, *, by_group: bool
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """dH of some neurons in nats, and how far the exact one may lie from it; 0 and infinity where sums overflow."""
        engine, start = self._engine, self._start
        assert engine.rows is not None
        p, q, pq, bases = start.p[0], start.pre[0], self._pq, start.bases[:, 0]
        ids = p.topk(head).indices
        everything = len(which) == len(engine.rows)
        kappa, c = [k[which] for k in self._kappa], self._c[which]

        m = engine.rows.index_select(1, ids) if everything else engine.rows[which[:, None], ids]
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

        left_Z, left_N = self._left(which, kappa, c, Tail.of(start, ids), by_group=by_group)
        terms = (1 + exact(D.abs().amax(-1))) * (1 + exact(q[ids].abs().amax()))
        rounding = ROUNDINGS * torch.finfo(m.dtype).eps * terms
        estimate = Z.log() - N / Z - start.entropy[0]
        bound = (left_Z + left_N) / Z + N.abs() * left_Z / Z**2 + rounding
        unknown = ~(estimate.isfinite() & bound.isfinite())
        return estimate.masked_fill(unknown, 0.0), bound.masked_fill(unknown, torch.inf)

    def _left(
        self, which: Int[Tensor, " n"], kappa: list[Tensor], c: Float[Tensor, " n"], tail: Tail, *, by_group: bool
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The bounds of R_Z and R_N."""
        row_squares, row_peaks = self._engine.row_squares, self._engine.row_peaks
        assert row_squares is not None
        assert row_peaks is not None
        squares, peaks, q = tail.squares, tail.peaks, exact(tail.q)
        if by_group:
            of_rows, at_most = exact(row_squares[which]) * exact(tail.p), exact(row_peaks[which])
        else:  # one group
            of_rows = exact(row_squares @ tail.p)[which, None]
            at_most = exact(row_peaks.amax(-1))[which, None]
            squares, peaks, q = squares.sum(-1, keepdim=True), peaks.amax(-1, keepdim=True), q.amax()
        S, M = c.abs()[:, None] * of_rows.sqrt(), c.abs()[:, None] * at_most
        for k, square, peak in zip(kappa, squares, peaks, strict=True):
            S = S + k.abs()[:, None] * exact(square).sqrt()
            M = M + k.abs()[:, None] * exact(peak)
        left = M.exp() * S.square() / 2
        return left.sum(-1), (left * (q + M + 2)).sum(-1)
