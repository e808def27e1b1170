"""Token frequency: the unigram distribution and its direction in vocabulary space (paper section 4; METHODS section 4).

    p_freq(t) = (count_t + 1) / sum(count + 1);   v = log p_freq - mean(log p_freq);   v^ = v / ‖v‖

Where ``W_U`` is wider than the tokenizer the counts are padded with zeros: probabilities keep padded ids, as the model
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.types import InputError


@dataclass(frozen=True)
class Unigram:
    """Counts over d_vocab ids and what follows from them; ``source`` names the text that was counted."""

    counts: Int[Tensor, " d_vocab"]
    log_p: Float[Tensor, " d_vocab"]
    direction: Float[Tensor, " d_vocab"]
    source: str

    @cached_property
    def p_freq(self) -> Float[Tensor, " d_vocab"]:
        return self.log_p.exp()

    @cached_property
    def entropy(self) -> float:
        """Entropy of the unigram distribution, nats."""
        return float(-(self.p_freq * self.log_p).sum())

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Unigram:
        return Unigram(
            self.counts.to(device), self.log_p.to(device, dtype), self.direction.to(device, dtype), self.source
        )


def unigram(counts: Int[Tensor, " n"], *, d_vocab: int, source: str) -> Unigram:
    """The unigram distribution of token counts, in float64; InputError when the counts cannot be this model's."""
    if counts.shape[0] > d_vocab:
        raise InputError(
            f"The counts have {counts.shape[0]} entries, the vocabulary only {d_vocab}.",
            code="wrong_counts",
            hint="They were counted with another tokenizer.",
        )
    if bool((counts < 0).any()):
        raise InputError("Token counts cannot be negative.", code="wrong_counts")
    padded = torch.zeros(d_vocab, dtype=torch.int64)
    padded[: counts.shape[0]] = counts.to(torch.int64)
    smoothed = padded.double() + 1
    log_p = (smoothed / smoothed.sum()).log()
    v = log_p - log_p.mean()
    norm = v.norm()
    return Unigram(padded, log_p, v / norm if norm > 0 else v, source)


def load_counts(path: Path, *, d_vocab: int) -> Unigram:
    """Read a ``.npy`` file of counts (never pickled)."""
    try:
        counts = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as token counts: {error}", code="wrong_counts") from error
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise InputError(
            f"{path.name} holds {counts.dtype} of shape {counts.shape}, not one integer per token.", code="wrong_counts"
        )
    return unigram(torch.from_numpy(counts.astype(np.int64)), d_vocab=d_vocab, source=path.name)


def freeze_frequency(
    clean: Float[Tensor, "*#batch d_vocab"],
    changed: Float[Tensor, "*#batch d_vocab"],
    direction: Float[Tensor, " d_vocab"],
) -> Float[Tensor, "*batch d_vocab"]:
    """Logits ``changed`` with their component along the frequency direction put back to that of ``clean``."""
    return changed + ((clean - changed) @ direction).unsqueeze(-1) * direction
