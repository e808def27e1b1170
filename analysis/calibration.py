"""Calibration of next-token predictions, clean and with last-layer neurons ablated together (paper, appendix; METHODS
9).

A prediction is the most probable token, its confidence the probability of that token. With B equal bins of confidence

    ECE = sum_b (n_b / n) |accuracy_b - confidence_b|        (Naeini et al. 2015)

the Brier score is the mean over tokens of sum_t (P(t) - [t is next])². The ECE's interval is a percentile bootstrap
over sequences. A set is ablated in closed form: its deltas add up in the residual stream, and only the readout follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from analysis.corpus import kept_positions
from analysis.metrics import entropy, loss, positions_per_chunk, wide
from analysis.model import Model
from analysis.sweep.plan import replicate_weights
from analysis.types import InputError, TokenFilter

REPLICATES = 200


@dataclass(frozen=True, slots=True)
class NeuronSet:
    """Last-layer neurons ablated together, each to its own value. Empty: the clean model."""

    name: str
    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Per kept token: confidence, whether the prediction was right, Brier score, loss, entropy, and its row."""

    confidence: ndarray
    correct: ndarray
    brier: ndarray
    loss: ndarray
    entropy: ndarray
    row: ndarray


@dataclass(frozen=True, slots=True)
class Calibration:
    """One run. edges: (bins + 1); count, confidence, accuracy: a number a bin, NaN where it is empty."""

    name: str
    edges: ndarray
    count: ndarray
    confidence: ndarray
    accuracy: ndarray
    ece: float
    ece_interval: tuple[float, float]
    brier: float
    loss: float
    entropy: float
    overall_accuracy: float


def run(
    model: Model, rows: Sequence[Sequence[int]], sets: Sequence[NeuronSet], token_filter: TokenFilter
) -> Iterator[tuple[int, list[Tokens]]]:
    """A row a step: (rows done, nothing yet), at the last one every set's tokens, in the order of ``sets``."""
    if not rows:
        raise InputError("There are no rows to calibrate on.", code="empty_corpus")
    parts: list[list[tuple[ndarray, ...]]] = [[] for _ in sets]
    for number, row in enumerate(rows):
        for place, found in enumerate(_row(model, list(row), sets, token_filter)):
            parts[place].append((*found, np.full(len(found[0]), number)))
        if number + 1 < len(rows):
            yield number + 1, []
    yield len(rows), [Tokens(*(np.concatenate(values) for values in zip(*part, strict=True))) for part in parts]


@torch.inference_mode()
def _row(
    model: Model, row: list[int], sets: Sequence[NeuronSet], token_filter: TokenFilter
) -> list[tuple[ndarray, ...]]:
    last = f"blocks.{model.last_layer}"
    names = [f"{last}.hook_resid_post", f"{last}.mlp.hook_post"]
    if model.readout.post_norm is not None:
        names.append(f"{last}.mlp.hook_out")
    captured = model.run(model.tokens(row), capture=names)
    kept = torch.from_numpy(kept_positions(row, token_filter, model.excluded_ids)).to(model.device)
    resid, activations, *out = (wide(captured[name][0])[kept] for name in names)
    targets = model.tokens(row)[0][kept + 1]
    found = []
    for each in sets:
        indices = list(each.indices)
        delta = torch.tensor(each.values).to(activations) - activations[:, indices]
        moved = (
            model.readout.write(resid, out[0] if out else None, delta, model.readout.W_out[indices])
            if indices
            else resid
        )
        found.append(_measured(model, moved, targets))
    return found


def _measured(model: Model, resid: Float[Tensor, "pos d_model"], targets: Int[Tensor, " pos"]) -> tuple[ndarray, ...]:
    parts = []
    chunk = positions_per_chunk(model.readout.d_vocab)
    for start in range(0, len(targets), chunk):
        log_p = model.readout.log_probs(resid[start : start + chunk])
        target = targets[start : start + chunk]
        top = log_p.max(-1)
        p = log_p.exp()
        brier = (p * p).sum(-1) - 2 * p.gather(1, target[:, None])[:, 0] + 1
        parts.append((top.values.exp(), top.indices == target, brier, loss(log_p, target), entropy(log_p)))
    return tuple(torch.cat(values).double().cpu().numpy() for values in zip(*parts, strict=True))


def summarise(name: str, tokens: Tokens, *, bins: int, seed: int = 0, replicates: int = REPLICATES) -> Calibration:
    """Reliability, ECE with its interval, and the averages."""
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.ceil(tokens.confidence * bins).astype(int) - 1, 0, bins - 1)  # bins are (low, high]
    rows = int(tokens.row.max()) + 1
    cells = which + bins * tokens.row
    sums = np.stack(
        [np.bincount(cells, weights, rows * bins) for weights in (None, tokens.confidence, tokens.correct)]
    ).reshape(3, rows, bins)
    count, confidence, correct = sums.sum(1)
    weights = np.stack([replicate_weights(seed, row, replicates) for row in range(rows)])  # row replicate
    drawn = np.einsum("srb,rk->skb", sums, weights)
    spread = [expected_error(*drawn[:, k]) for k in range(replicates) if drawn[0, k].sum()]
    low, high = np.quantile(spread, [0.025, 0.975]) if spread else (np.nan, np.nan)
    full = np.where(count > 0, count, np.nan)
    return Calibration(
        name=name,
        edges=edges,
        count=count.astype(int),
        confidence=confidence / full,
        accuracy=correct / full,
        ece=expected_error(count, confidence, correct),
        ece_interval=(float(low), float(high)),
        brier=float(tokens.brier.mean()),
        loss=float(tokens.loss.mean()),
        entropy=float(tokens.entropy.mean()),
        overall_accuracy=float(tokens.correct.mean()),
    )


def expected_error(count: ndarray, confidence: ndarray, correct: ndarray) -> float:
    """ECE from each bin's number of tokens, sum of confidences and number of right predictions."""
    return float(np.abs(correct - confidence).sum() / count.sum())
