"""Numbers of a next-token distribution, one per position, reduced in float32 or wider (METHODS: nats throughout)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

VOCAB_CHUNK_ELEMENTS = 1 << 24
"""Logits held at once: 64 MiB in float32, so that long prompts with large vocabularies stay within memory."""

CACHE_ELEMENTS = 1 << 17
"""Logits reduced at once: 512 KiB in float32 stay in a core's cache over the passes of `summary`."""


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, or float64 where it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def entropy(log_probs: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch"]:
    """H(P) in nats; a probability of exactly 0 contributes 0."""
    return (log_probs.exp() * -log_probs.clamp_min(torch.finfo(log_probs.dtype).min)).sum(-1)  # never -0


def loss(log_probs: Float[Tensor, "*batch d_vocab"], target: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """-log P(target)."""
    return 0 - log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)  # never -0


def rank(scores: Float[Tensor, "*batch d_vocab"], target: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """Number of tokens with a strictly greater score than the target's; 0 is the top."""
    return (scores > scores.gather(-1, target.unsqueeze(-1))).sum(-1)


def kl(log_p: Float[Tensor, "*#batch d_vocab"], log_q: Float[Tensor, "*#batch d_vocab"]) -> Float[Tensor, "*batch"]:
    """KL(P ‖ Q) = sum p (log p - log q), in this order of the arguments."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class Summary(NamedTuple):
    """What one pass over the logits of some positions gives; ``cross_entropy`` is -sum p_freq log P."""

    entropy: Float[Tensor, " pos"]
    loss: Float[Tensor, " pos"]
    top1_prob: Float[Tensor, " pos"]
    rank: Int[Tensor, " pos"]
    cross_entropy: Float[Tensor, " pos"] | None


def summary(
    logits: Float[Tensor, "pos d_vocab"], target: Int[Tensor, " pos"], p_freq: Float[Tensor, " d_vocab"] | None
) -> Summary:
    """Entropy, loss, top-1 probability, rank and cross-entropy of the unigram distribution, a few rows at a time.

    With z shifted by its maximum and log Z = log sum exp z: H = log Z - sum p z, loss = log Z - z_target.
    """
    rows = max(1, CACHE_ELEMENTS // logits.shape[-1])
    starts = range(0, logits.shape[0], rows)
    parts = [_summary(logits[i : i + rows], target[i : i + rows], p_freq) for i in starts]
    entropy, loss, top1_prob, rank, cross = zip(*parts, strict=True)
    joined = None if p_freq is None else torch.cat(cross)
    return Summary(torch.cat(entropy), torch.cat(loss), torch.cat(top1_prob), torch.cat(rank), joined)


def _summary(logits: Tensor, target: Tensor, p_freq: Tensor | None) -> Summary:
    z = logits - logits.amax(-1, keepdim=True)
    p = z.softmax(-1)
    top1_prob = p.amax(-1)
    log_z = -top1_prob.log()
    z_target = z.gather(-1, target.unsqueeze(-1))
    entropy = log_z - torch.linalg.vecdot(p, z)
    return Summary(
        entropy=entropy,
        loss=log_z - z_target.squeeze(-1),
        top1_prob=top1_prob,
        rank=torch.gt(z, z_target, out=p).sum(-1).long(),  # of floats: exact to 2^24, five times as fast as of booleans
        cross_entropy=None if p_freq is None else log_z - z @ p_freq,
    )


def positions_per_chunk(d_vocab: int) -> int:
    """How many positions' logits are held at once."""
    return max(1, VOCAB_CHUNK_ELEMENTS // d_vocab)
