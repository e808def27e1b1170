"""How a model uses token frequency (METHODS section 4; paper section 4): the bias alone, a prompt, one neuron.

softmax(b_U)             what a residual stream of zero predicts; close to P_freq where b_U has learnt the counts
KL(P_freq ‖ P_t)         along a prompt, and its Pearson correlation with the entropy H(P_t)
log P'(v) - log P(v)     the shift by ablating a neuron at one token, regressed on log p_freq(v) over the vocabulary
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.readout import Readout
from analysis.trace import Trace, intervene
from analysis.types import Intervention, NeuronId


@dataclass(frozen=True, slots=True)
class BiasPrediction:
    """softmax(b_U) beside P_freq, nats. log_p: (d_vocab,). The others None without counts; cosine: of the centred
    b_U with the frequency direction, NaN where b_U is constant."""

    log_p: Float[Tensor, " d_vocab"]
    entropy: float
    kl_unigram: float | None = None
    correlation: float | None = None
    cosine: float | None = None


def bias_prediction(readout: Readout, unigram: Unigram | None) -> BiasPrediction:
    """What the unembedding's bias predicts by itself, in float64: KL(P_freq ‖ softmax(b_U)), the correlation of the two
    log-probabilities over the vocabulary, the cosine of b_U with the frequency direction."""
    b_U = readout.cap(readout.b_U).double().cpu()
    log_p = b_U.log_softmax(0)
    entropy = float(metrics.entropy(log_p))
    if unigram is None:
        return BiasPrediction(log_p, entropy)
    centred = b_U - b_U.mean()
    length = float(centred.norm())
    return BiasPrediction(
        log_p,
        entropy,
        kl_unigram=float(metrics.kl(unigram.log_p, log_p)),
        correlation=correlation(log_p, unigram.log_p),
        cosine=float(centred @ unigram.direction) / length if length > 0 else math.nan,
    )


def correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Pearson's; NaN where one of them is constant."""
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def by_rank(unigram: Unigram, points: int) -> list[tuple[int, float]]:
    """(rank from 1, p_freq) at about ``points`` ranks, evenly spaced on a log scale."""
    p = unigram.p_freq.sort(descending=True).values
    ranks = sorted({round(10 ** (x * math.log10(len(p)) / points)) for x in range(points + 1)})
    return [(rank, float(p[rank - 1])) for rank in ranks if 1 <= rank <= len(p)]


def spread(known: Int[Tensor, " n_tokens"], most: int) -> Int[Tensor, " n"]:
    """At most ``most`` of the known ids, evenly spread: what a scatter over a large vocabulary shows."""
    n, count = len(known), min(len(known), most)
    return known[torch.arange(count) * n // count]


def log_counts(unigram: Unigram) -> Float[Tensor, " d_vocab"]:
    """log10(count + 1), float64."""
    return (unigram.counts.double() + 1).log10()


def entropy_correlation(run: Trace, *, skip: int) -> float | None:
    """Correlation of H(P_t) and KL(P_freq ‖ P_t) over the positions from ``skip`` on; None with fewer than three."""
    found = run.metrics
    if found.kl_unigram is None or len(found.entropy) - skip < 3:
        return None
    return correlation(found.entropy[skip:], found.kl_unigram[skip:])


@dataclass(frozen=True, slots=True)
class Shift:
    """One last-layer neuron ablated at one position. change: log P' - log P over d_vocab ids, nats. slope: nats of
    change for a nat of log p_freq, least squares. d_kl_unigram: change of KL(P_freq ‖ P)."""

    position: int
    change: Float[Tensor, " d_vocab"]
    slope: float
    d_kl_unigram: float


def shift(model: Model, run: Trace, unigram: Unigram, neuron: NeuronId, base: float, at: int | None = None) -> Shift:
    """The neuron set to ``base`` at one position; at None: where it is farthest from it (the first left out, if there
    are more).

    ``run``: a clean trace with this unigram distribution; ``neuron``: of the last layer. float64 on the CPU.
    """
    if at is None:
        distance = (run.last.activations[:, neuron.index] - base).abs()
        at = int(distance[1:].argmax()) + 1 if len(run) > 1 else 0
    ablated = intervene(model, run, [Intervention(neuron, "value", base, positions=(at,))], unigram=unigram)
    before, after = (model.readout.log_probs(each.last.resid[at]).double().cpu() for each in (run, ablated))
    change, v = after - before, unigram.log_p - unigram.log_p.mean()
    kl_before, kl_after = run.metrics.kl_unigram, ablated.metrics.kl_unigram
    assert kl_before is not None
    assert kl_after is not None
    return Shift(
        position=at,
        change=change,
        slope=float((change - change.mean()) @ v / (v @ v)),
        d_kl_unigram=float(kl_after[at] - kl_before[at]),
    )
