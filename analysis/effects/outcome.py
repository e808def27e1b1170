"""From the kernels' sums to effects: every difference that needs no pass over the vocabulary is taken here, in float64.

With L' the log-partition relative to the clean one, loss and both divergences follow from scalars:

    d_loss = L' - (z' - z)[target]      d_kl_unigram = L' - p_freq·(z' - z)      KL(P ‖ P') = L' - P·(z' - z)

and each product with z' - z is one with d_model entries. Capped logits are not linear in the residual stream; for them
the kernel sums the products as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.effects.ablation import Ablation, Condition, Shift, moved
from analysis.effects.clean import Clean, exact
from analysis.effects.engine import Engine
from analysis.effects.ln_only import LnOnly
from analysis.kernels import Coefficients, Sums, Tile
from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one condition does, intervened minus clean, in nats; float64.

    d_loss and d_reciprocal_rank are NaN where there is no next token. kl: KL(P ‖ P'). top1_changes and
    d_reciprocal_rank only where ranks were asked for; d_kl_unigram only with token counts.
    """

    d_entropy: Float[Tensor, "pos n"]
    d_loss: Float[Tensor, "pos n"]
    kl: Float[Tensor, "pos n"]
    d_kl_unigram: Float[Tensor, "pos n"] | None = None
    top1_changes: Bool[Tensor, "pos n"] | None = None
    d_reciprocal_rank: Float[Tensor, "pos n"] | None = None


@dataclass(frozen=True, slots=True)
class Moves:
    """Products of z' - z: at the clean argmax and the target (``marks``), with P, with p_freq and along v^."""

    marks: Float[Tensor, "2 pos n"]
    p: Float[Tensor, "pos n"]
    p_freq: Float[Tensor, "pos n"] | None
    direction: Float[Tensor, "pos n"] | None


def outcomes(
    engine: Engine,
    clean: Clean,
    ablation: Ablation,
    rows: Float[Tensor, "n vocab"],
    conditions: tuple[Condition, ...],
    *,
    ranks: bool,
    ln_only: LnOnly,
) -> dict[Condition, Outcome]:
    """Every condition's effects; ``rows`` are the m of the ablation's write vectors, ``ln_only`` the run's curves."""
    capped = engine.readout.soft_cap is not None
    first = [c for c in conditions if c != "frequency" or not capped]
    if capped and "frequency" in conditions and "total" not in first:
        first.append("total")
    moves = {c: _moves(engine, clean, ablation, c) for c in first}
    sums: dict[Condition, Sums] = {}
    if "ln_only" in first and (on_curve := ln_only.sums(ablation.after)) is not None:
        sums["ln_only"] = on_curve
    passes = {c: move for c, move in moves.items() if c not in sums}
    sums |= _run(engine, clean, ablation, rows, passes, ranks)
    if capped:
        moves = {c: _from_products(engine, clean, moves[c], sums[c]) for c in first}
    if capped and "frequency" in conditions:
        moves["frequency"] = _freeze(engine, clean, moves["total"])
        sums |= _run(engine, clean, ablation, rows, {"frequency": moves["frequency"]}, ranks)
    unchanged = ablation.delta == 0
    return {c: _outcome(engine, clean, moves[c], sums[c], unchanged) for c in conditions}


def _moves(engine: Engine, clean: Clean, ablation: Ablation, condition: Condition) -> Moves:
    """From d_model-sized products. With a cap only the marks are right, the rest waits for the kernel's products."""
    shift = ablation.shift(clean, condition)
    cap = engine.readout.cap
    at = torch.stack([moved(clean, ablation, shift, vector) for vector in clean.at_marks])
    if engine.readout.soft_cap is not None:
        before = torch.stack([exact(clean.pre.gather(1, mark[:, None])) for mark in clean.marks])
        nothing = torch.zeros_like(ablation.delta)
        return Moves(cap(before + at) - cap(before), nothing, None, None)
    p = moved(clean, ablation, shift, clean.at_p)
    p_freq = None if engine.p_freq is None else moved(clean, ablation, shift, engine.p_freq)
    direction = None if engine.direction is None else moved(clean, ablation, shift, engine.direction)
    moves = Moves(at, p, p_freq, direction)
    return _freeze(engine, clean, moves) if condition == "frequency" else moves


def _freeze(engine: Engine, clean: Clean, moves: Moves) -> Moves:
    """The same with the frequency component put back: z'_f = z' - (v^·(z' - z)) v^; ``direction`` is what was taken."""
    unigram, along = engine.unigram, moves.direction
    if unigram is None or along is None or moves.p_freq is None:
        raise InputError("The frequency condition needs token counts.", code="no_counts")
    v = exact(unigram.direction).to(along.device)
    return Moves(
        marks=moves.marks - along * v[clean.marks][..., None],
        p=moves.p - along * (exact(clean.p) @ v)[:, None],
        p_freq=moves.p_freq - along * (exact(unigram.p_freq).to(v.device) @ v),
        direction=along,
    )


def _from_products(engine: Engine, clean: Clean, moves: Moves, sums: Sums) -> Moves:
    """Capped logits: the kernel's products less the clean ones."""
    assert sums.products is not None
    products = exact(sums.products)
    clean_log_p = exact(engine.readout.cap(clean.pre)) - clean.log_partition[:, None]
    functionals = capped_functionals(engine, clean)
    change = [
        product - (exact(f) * clean_log_p).sum(-1)[:, None] for product, f in zip(products, functionals, strict=True)
    ]
    return Moves(moves.marks, change[0], *(change[1:] if len(change) > 1 else (None, None)))


def capped_functionals(engine: Engine, clean: Clean) -> Float[Tensor, "f pos vocab"]:
    vectors = [clean.p]
    if engine.unigram is not None:
        vectors += [v.to(clean.p).expand_as(clean.p) for v in (engine.unigram.p_freq, engine.unigram.direction)]
    return torch.stack(vectors)


def _run(
    engine: Engine,
    clean: Clean,
    ablation: Ablation,
    rows: Float[Tensor, "n vocab"],
    moves: dict[Condition, Moves],
    ranks: bool,
) -> dict[Condition, Sums]:
    """One call of the backend for the conditions of ``moves``."""
    if not moves:
        return {}
    readout, unigram = engine.readout, engine.unigram
    capped = readout.soft_cap is not None
    conditions = tuple(_coefficients(engine, clean, ablation, c, rows, moves[c], ranks) for c in moves)
    tile = Tile(
        base=clean.pre,
        bases=clean.bases,
        rows=rows,
        conditions=conditions,
        direction=unigram.direction.to(rows) if unigram is not None and "frequency" in moves else None,
        cap=readout.soft_cap,
        shift=clean.log_partition.to(rows) if capped else None,
        functionals=capped_functionals(engine, clean) if capped and "frequency" not in moves else None,
    )
    return dict(zip(moves, engine.backend(tile), strict=True))


def _coefficients(
    engine: Engine,
    clean: Clean,
    ablation: Ablation,
    condition: Condition,
    rows: Float[Tensor, "n vocab"],
    moves: Moves,
    ranks: bool,
) -> Coefficients:
    shift = ablation.shift(clean, condition)
    along = -moves.direction if condition == "frequency" and moves.direction is not None else None
    thresholds = _thresholds(engine, clean, shift, rows, moves, along) if ranks else None
    return Coefficients(
        bases=None if shift.bases is None else torch.stack(shift.bases).to(rows),
        row=None if shift.row is None else shift.row.to(rows),
        direction=None if along is None else along.to(rows),
        thresholds=thresholds,
    )


def _thresholds(
    engine: Engine,
    clean: Clean,
    shift: Shift,
    rows: Float[Tensor, "n vocab"],
    moves: Moves,
    along: Float[Tensor, "pos n"] | None,
) -> Float[Tensor, "2 pos n"]:
    """u at the marked tokens plus four roundings of its largest term: only what is really greater counts as above."""
    pre = torch.stack([clean.pre.gather(1, mark[:, None]) for mark in clean.marks])
    u = exact(pre) if engine.readout.soft_cap is None else exact(engine.readout.cap(pre)) - clean.log_partition[:, None]
    terms = exact(pre).abs() + exact(clean.log_partition).abs()[:, None]
    if shift.bases is not None:
        for coefficient, base in zip(shift.bases, clean.bases, strict=True):
            at = torch.stack([exact(base.gather(1, mark[:, None])) for mark in clean.marks])
            terms = terms + (coefficient * at).abs()
    if shift.row is not None:
        terms = terms + (shift.row * exact(rows.T[clean.marks])).abs()
    return (u + moves.marks + 4 * torch.finfo(rows.dtype).eps * terms).to(rows)


def _outcome(
    engine: Engine,
    clean: Clean,
    moves: Moves,
    sums: Sums,
    unchanged: Bool[Tensor, "pos n"],
) -> Outcome:
    log_partition, mean = exact(sums.log_partition), exact(sums.mean)
    has_target = (clean.targets >= 0).to(unchanged.device)[:, None]

    def settle(change: Tensor) -> Tensor:
        """A neuron that is left as it is has no effect, not one of the size of a rounding error."""
        return change.masked_fill(unchanged, 0.0)

    changes = rank = None
    if sums.above is not None:
        changes = (sums.above[0] > 0) & ~unchanged.to(sums.above.device)
        rank = settle(1 / (1 + exact(sums.above[1])) - 1 / (1 + clean.rank)[:, None]).where(has_target, torch.nan)
    return Outcome(
        d_entropy=settle(log_partition - mean - clean.entropy[:, None]),
        d_loss=settle(log_partition - moves.marks[1]).where(has_target, torch.nan),
        kl=settle(log_partition - moves.p).clamp_min(0),
        d_kl_unigram=None if moves.p_freq is None else settle(log_partition - moves.p_freq),
        top1_changes=changes,
        d_reciprocal_rank=rank,
    )
