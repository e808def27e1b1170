"""The paper's story in numbers that a slider runs over, each exact: no curve is fitted and nothing is binned.

(a) the logits of a text scaled; (b) the LN scale of its last token held; (c) its last stream moved along a direction
that no token reads, and along the one that is read most; (d) an entropy neuron's activation held, beside random
directions of its length; (e) a frequency neuron's. (Paper sections 3 and 4; METHODS sections 1 to 4.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.frequency import Unigram
from analysis.nullspace import random_rows
from analysis.readout import Readout
from analysis.trace import LastLayer

KEPT = 50
"""How many of the likeliest tokens are followed."""


@dataclass(frozen=True, slots=True)
class Walk:
    """The last stream moved by ``amount`` along one direction: the scale, and the largest change of a log-probability
    while the scale is held."""

    singular_value: float
    ln_scale: Float[Tensor, " step"]
    change: Float[Tensor, " step"]


@dataclass(frozen=True, slots=True)
class Dial:
    """A last-layer neuron's activation held at ``value`` at one token. kept: of the KEPT likeliest tokens as it is, how
    many are still among them. random: the same along directions of its length, (direction, step)."""

    value: Float[Tensor, " step"]
    now: float
    entropy: Float[Tensor, " step"]
    ln_scale: Float[Tensor, " step"]
    kept: Int[Tensor, " step"]
    kl_unigram: Float[Tensor, " step"] | None
    log_probs: Float[Tensor, "step d_vocab"]
    random_entropy: Float[Tensor, "direction step"] | None = None
    random_ln_scale: Float[Tensor, "direction step"] | None = None
    random_kept: Int[Tensor, "direction step"] | None = None


def band(values: Float[Tensor, "direction step"]) -> Float[Tensor, "ends step"]:
    """The middle nine tenths over directions and their mean: low, mean, high."""
    ends = torch.quantile(values.double(), torch.tensor([0.05, 0.95], dtype=torch.float64, device=values.device), dim=0)
    return torch.stack([ends[0], values.double().mean(0), ends[1]])


def scaled(readout: Readout, x: Float[Tensor, "pos d_model"], factors: Sequence[float]) -> Float[Tensor, "pos factor"]:
    """Entropy of softmax(f z) at each position, for each factor f; nats."""
    z = readout.logits(x)
    return torch.stack([metrics.entropy((factor * z).log_softmax(-1)) for factor in factors], dim=1)


def held(readout: Readout, x: Float[Tensor, " d_model"], scales: Sequence[float]) -> Float[Tensor, "scale d_vocab"]:
    """log P of one token with the LN scale held at each of these."""
    wide = x.expand(len(scales), -1)
    return readout.logits(wide, scale=torch.tensor(scales, dtype=x.dtype, device=x.device)).log_softmax(-1)


def walk(
    readout: Readout,
    x: Float[Tensor, " d_model"],
    direction: Float[Tensor, " d_model"],
    singular_value: float,
    amounts: Sequence[float],
) -> Walk:
    """x + a u for each amount a, u of length one."""
    a = torch.tensor(amounts, dtype=x.dtype, device=x.device)
    moved = x + a.unsqueeze(1) * direction.to(x)
    frozen = readout.scale(x).expand(len(amounts))
    before = readout.log_probs(x.unsqueeze(0))
    change = (readout.logits(moved, scale=frozen).log_softmax(-1) - before).abs().amax(-1)
    return Walk(singular_value, readout.scale(moved), change)


def dial(
    readout: Readout,
    last: LastLayer,
    position: int,
    index: int,
    values: Sequence[float],
    *,
    unigram: Unigram | None = None,
    n_random: int = 0,
    seed: int = 0,
) -> Dial:
    """Neuron ``index`` of the last layer at ``position``, its activation held at each value."""
    resid = last.resid[position].unsqueeze(0)
    mlp_out = None if last.mlp_out is None else last.mlp_out[position].unsqueeze(0)
    now = last.activations[position, index]
    value = torch.tensor(values, dtype=resid.dtype, device=resid.device)
    delta = (value - now).unsqueeze(1)
    likeliest = readout.logits(resid).topk(min(KEPT, readout.d_vocab)).indices[0]

    def at(row: Float[Tensor, " d_model"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out = None if mlp_out is None else mlp_out.expand(len(values), -1)
        moved = readout.write(resid.expand(len(values), -1), out, delta, row.unsqueeze(0))
        log_probs = readout.log_probs(moved)
        top = log_probs.topk(len(likeliest)).indices
        kept = torch.isin(top, likeliest).sum(-1)
        return log_probs, metrics.entropy(log_probs), readout.scale(moved), kept

    row = readout.W_out[index]
    log_probs, entropy, ln_scale, kept = at(row)
    norms = row.double().norm().repeat(n_random)
    centred = readout.centred and readout.post_norm is None
    rows = random_rows(norms, readout.d_model, centred=centred, seed=seed).to(row)
    controls = [at(other)[1:] for other in rows]
    random = [torch.stack(list(series)) for series in zip(*controls, strict=True)] if controls else [None] * 3
    kl = None if unigram is None else metrics.kl(unigram.log_p.to(log_probs), log_probs)
    return Dial(value, float(now), entropy, ln_scale, kept, kl, log_probs, *random)
