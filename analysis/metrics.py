"""Numbers of a next-token distribution, one per position, reduced in float32 or wider (METHODS: nats throughout)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

VOCAB_CHUNK_ELEMENTS = 1 << 24
"""Logits held at once: 64 MiB in float32, so that long prompts with large vocabularies stay within memory."""


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, or float64 where it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def entropy(log_probs: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch"]:
    """H(P) in nats; a probability of exactly 0 contributes 0."""
    return -(log_probs.exp() * log_probs.clamp_min(torch.finfo(log_probs.dtype).min)).sum(-1)


def loss(
    log_probs: Float[Tensor, "*batch d_vocab"], target: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """-log P(target)."""
    return -log_probs.gather(-1, target.unsqueeze(-1)).squeeze(-1)


def rank(scores: Float[Tensor, "*batch d_vocab"], target: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """Number of tokens with a strictly greater score than the target's; 0 is the top."""
    return (scores > scores.gather(-1, target.unsqueeze(-1))).sum(-1)


def kl(
    log_p: Float[Tensor, "*#batch d_vocab"], log_q: Float[Tensor, "*#batch d_vocab"]
) -> Float[Tensor, "*batch"]:
    """KL(P ‖ Q) = sum p (log p - log q), in this order of the arguments."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def positions_per_chunk(d_vocab: int) -> int:
    """How many positions' logits are held at once."""
    return max(1, VOCAB_CHUNK_ELEMENTS // d_vocab)
