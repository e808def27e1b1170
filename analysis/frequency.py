"""Token frequency: the unigram distribution and its direction in vocabulary space (paper section 4; METHODS section 4).

    p_freq(t) = (count_t + 1) / sum(count + 1);   v = log p_freq - mean(log p_freq);   v^ = v / ‖v‖

Where ``W_U`` is wider than the tokenizer the counts are padded with zeros: probabilities keep padded ids, as the model
does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.files import atomic_file, write_bytes
from analysis.types import InputError


@dataclass(frozen=True)
class Unigram:
    """Counts over d_vocab ids and what follows from them; ``source`` names the text that was counted."""

    counts: Int[Tensor, " d_vocab"]
    log_p: Float[Tensor, " d_vocab"]
    direction: Float[Tensor, " d_vocab"]
    source: str

    @cached_property
    def sha256(self) -> str:
        """Of the counts, from which everything else follows."""
        return hashlib.sha256(self.counts.cpu().numpy().tobytes()).hexdigest()

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
    if bool((counts[d_vocab:] != 0).any()):
        raise InputError(
            f"The counts have {counts.shape[0]} entries, the vocabulary only {d_vocab}.",
            code="wrong_counts",
            hint="They were counted with another tokenizer.",
        )
    if bool((counts < 0).any()):
        raise InputError("Token counts cannot be negative.", code="wrong_counts")
    padded = torch.zeros(d_vocab, dtype=torch.int64)
    padded[: counts.shape[0]] = counts[:d_vocab].to(torch.int64)
    smoothed = padded.double() + 1
    log_p = (smoothed / smoothed.sum()).log()
    return Unigram(padded, log_p, _direction(log_p), source)


def _direction(log_p: Float[Tensor, " d_vocab"]) -> Float[Tensor, " d_vocab"]:
    """v^; zero where all counts are equal and only rounding is left of v."""
    v = log_p - log_p.mean()
    v = v - v.mean()  # the rounding of the mean is as large as v where counts are nearly equal
    norm = v.norm()
    rounding = torch.finfo(v.dtype).eps * log_p.norm()
    return v / norm if norm > rounding else torch.zeros_like(v)


def save_counts(counts: np.ndarray, path: Path, *, vocabulary: str) -> None:
    """Write counts, one integer for each id, and beside them (``.json``) the hash of the vocabulary they are of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    note = path.with_suffix(".json")
    note.unlink(missing_ok=True)
    with atomic_file(path) as file:
        np.save(file, counts)
    write_bytes(note, json.dumps({"vocabulary_sha256": vocabulary}).encode())


def load_counts(path: Path, *, d_vocab: int, vocabulary: str | None = None) -> Unigram:
    """Read a ``.npy`` file of counts (never pickled). InputError for another file, or where the note beside it names
    another vocabulary than ``vocabulary``."""
    try:
        counts = np.load(path, allow_pickle=False)
        note = path.with_suffix(".json")
        noted = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        counted = noted.get("vocabulary_sha256")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path.name} cannot be read as token counts: {error}", code="wrong_counts") from error
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise InputError(
            f"{path.name} holds {counts.dtype} of shape {counts.shape}, not one integer per token.", code="wrong_counts"
        )
    if None not in (vocabulary, counted) and vocabulary != counted:
        raise InputError(
            f"The tokens of {path.name} were counted with another tokenizer.",
            code="wrong_counts",
            hint="Count them again (nullscope count), or remove the file.",
        )
    return unigram(torch.from_numpy(counts.astype(np.int64)), d_vocab=d_vocab, source=path.name)


def freeze_frequency(
    clean: Float[Tensor, "*#batch d_vocab"],
    changed: Float[Tensor, "*#batch d_vocab"],
    direction: Float[Tensor, " d_vocab"],
) -> Float[Tensor, "*batch d_vocab"]:
    """Logits ``changed`` with their component along the frequency direction put back to that of ``clean``."""
    return changed + ((clean - changed) @ direction).unsqueeze(-1) * direction
