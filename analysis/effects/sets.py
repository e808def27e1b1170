"""Several neurons at once, and one dose after another, at one token.

A set moves the residual stream by the sum of its neurons' changes, so it is one write vector like any other: exact, in
any order. The difference from the sum of the single effects is the interaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.effects.ablation import Condition, ablation
from analysis.effects.clean import clean, exact
from analysis.effects.engine import Engine
from analysis.effects.ln_only import LnOnly
from analysis.effects.outcome import Outcome, outcomes
from analysis.effects.stream import next_tokens
from analysis.effects.table import Effects, Parts, conditions_of, effects
from analysis.readout import Readout
from analysis.trace import LastLayer
from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class Joint:
    """A set ablated together, and each of its neurons alone. Parts hold one number, nats; see ``Effects``."""

    singles: Effects
    d_entropy: Parts
    d_loss: Parts | None
    d_kl_unigram: Parts | None
    kl: float
    ln_scale_after: float
    top1_changes: bool
    d_reciprocal_rank: float | None


@torch.inference_mode()
def joint(
    engine: Engine,
    last: LastLayer,
    token_ids: Sequence[int],
    position: int,
    neurons: Sequence[int],
    *,
    baseline: Float[Tensor, " d_mlp"],
) -> Joint:
    """Ablate all of ``neurons`` at one token together."""
    if len(set(neurons)) != len(neurons):
        raise InputError("A neuron is in the set twice.", code="duplicate_neuron", hint="Name each neuron once.")
    singles = effects(engine, last, token_ids, position, baseline=baseline, neurons=neurons)
    which = torch.tensor(list(neurons))
    here = torch.tensor([position])
    start = clean(engine, last, here, next_tokens(token_ids)[here])
    delta = exact(baseline[which] - last.activations[position, which])
    write = delta @ exact(engine.readout.W_out[which])
    change = ablation(engine, start, write[None], torch.ones_like(delta[None, :1]))
    rows = (delta.to(engine.readout.W_U) @ engine.vocabulary_rows(which))[None]
    curves = LnOnly(engine.readout, start, None)
    made = outcomes(engine, start, change, rows, conditions_of(engine), ranks=True, ln_only=curves)
    total = made["total"]
    assert total.top1_changes is not None
    assert total.d_reciprocal_rank is not None
    return Joint(
        singles=singles,
        d_entropy=_parts(made, "d_entropy"),
        d_loss=None if singles.d_loss is None else _parts(made, "d_loss"),
        d_kl_unigram=None if singles.d_kl_unigram is None else _parts(made, "d_kl_unigram"),
        kl=float(total.kl[0, 0]),
        ln_scale_after=float(change.after[0, 0]),
        top1_changes=bool(total.top1_changes[0, 0]),
        d_reciprocal_rank=None if singles.d_loss is None else float(total.d_reciprocal_rank[0, 0]),
    )


def _parts(made: dict[Condition, Outcome], name: str) -> Parts:
    return Parts.of({condition: getattr(outcome, name)[0] for condition, outcome in made.items()})


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """A set's activations all clamped to each of ``doses`` at one token. loss: None where no token follows.

    frozen_entropy, frozen_loss: the same with the LN scale kept at its clean value.
    """

    doses: Float[Tensor, " dose"]
    entropy: Float[Tensor, " dose"]
    loss: Float[Tensor, " dose"] | None
    ln_scale: Float[Tensor, " dose"]
    top1_prob: Float[Tensor, " dose"]
    top1: Int[Tensor, " dose"]
    frozen_entropy: Float[Tensor, " dose"]
    frozen_loss: Float[Tensor, " dose"] | None


def doses(low: float, high: float, steps: int) -> Float[Tensor, " dose"]:
    """Evenly spaced, both ends included; float64."""
    return torch.linspace(low, high, steps, dtype=torch.float64)


@torch.inference_mode()
def dose_response(
    engine: Engine,
    last: LastLayer,
    token_ids: Sequence[int],
    position: int,
    neurons: Sequence[int],
    doses: Float[Tensor, " dose"],
) -> DoseResponse:
    """Clamp the activations of ``neurons`` to one dose after another, straight through the readout."""
    readout, which = engine.readout, torch.tensor(list(neurons))
    resid = last.resid[position].expand(len(doses), -1)
    mlp_out = None if last.mlp_out is None else last.mlp_out[position].expand(len(doses), -1)
    delta = doses.to(resid)[:, None] - last.activations[position, which]
    changed = readout.write(resid, mlp_out, delta, readout.W_out[which])
    target = token_ids[position + 1] if position + 1 < len(token_ids) else None
    parts = [
        _dose(readout, changed[rows], readout.scale(resid[rows]), target)
        for rows in torch.split(torch.arange(len(doses)), metrics.positions_per_chunk(readout.d_vocab))
    ]
    entropy, loss, top1_prob, top1, frozen_entropy, frozen_loss = (torch.cat(part) for part in zip(*parts, strict=True))
    followed = target is not None
    return DoseResponse(
        doses=doses,
        entropy=entropy,
        loss=loss if followed else None,
        ln_scale=readout.scale(changed),
        top1_prob=top1_prob,
        top1=top1,
        frozen_entropy=frozen_entropy,
        frozen_loss=frozen_loss if followed else None,
    )


def _dose(
    readout: Readout, changed: Float[Tensor, "dose d_model"], scale: Float[Tensor, " dose"], target: int | None
) -> tuple[Tensor, ...]:
    """entropy, loss, top probability and token; entropy and loss with the scale frozen."""
    log_p = readout.log_probs(changed)
    frozen = readout.logits(changed, scale=scale).log_softmax(-1)
    top, token = log_p.max(-1)
    at = 0 if target is None else target
    return metrics.entropy(log_p), -log_p[:, at], top.exp(), token, metrics.entropy(frozen), -frozen[:, at]
