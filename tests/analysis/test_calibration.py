"""Calibration against definitions spelled out, and against hooked forward passes."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis import calibration, predictions
from analysis.calibration import Calibration, CalibrationError, Sums
from analysis.predictions import NeuronSet, Predictions, Tokens
from analysis.sweep.plan import replicate_weights
from analysis.types import TokenFilter
from tests import tiny
from tests.tolerance import near, of_pass, of_sum


def calibrated(confidence: list[float], correct: list[bool], document: list[int], *, bins: int) -> Calibration:
    """Of tokens with their documents, a row a document."""
    sums, zeros = Sums("x", bins), np.zeros(len(document))
    of = np.array(document)
    for each in dict.fromkeys(document):
        here = of == each
        sums.add(Tokens(np.array(confidence)[here], np.array(correct, dtype=float)[here], *[zeros[here]] * 3), each)
    return sums.result()


def error_of(sums: np.ndarray, weights: np.ndarray) -> CalibrationError:
    """From (3, document, bin) and how often a document counts in each replicate."""
    return calibration.calibration_error(sums.sum(1), np.einsum("sdb,dk->skb", sums, weights), sums.shape[1])


def slow_ece(confidence: list[float], correct: list[bool], bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sure)
    return total


@given(
    st.lists(st.tuples(st.floats(0.011, 0.999), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40),
    st.integers(2, 12),
)
def test_ece_is_its_definition(found: list[tuple[float, bool, int]], bins: int) -> None:
    confidence, correct, row = (list(values) for values in zip(*found, strict=True))
    made = calibrated(confidence, correct, row, bins=bins)
    assert abs(made.error.plain - slow_ece(confidence, correct, bins)) < of_sum(2 * len(confidence))
    assert made.error.value >= 0
    assert made.count.sum() == len(confidence)


Shift = Callable[[np.ndarray], np.ndarray]


class Population:
    """Documents of two rows with 60 tokens each; a document's answers lean to one side together."""

    DOCUMENTS, ROW, BINS = 1500, 60, 15

    def __init__(self, shift: Shift, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n = self.DOCUMENTS * 2 * self.ROW
        document = np.arange(n) // (2 * self.ROW)
        self.confidence = rng.beta(1, 1.5, n) * 0.98 + 0.01
        self.uniform = rng.uniform(size=n).reshape(self.DOCUMENTS, -1)
        self.leaning = rng.normal(0, 0.05, self.DOCUMENTS)[document]
        self.tokens = self.confidence.reshape(self.DOCUMENTS, -1)
        self.correct = self.right(shift)

    def right(self, shift: Shift) -> np.ndarray:
        chance = np.clip(self.confidence + shift(self.confidence) + self.leaning, 0, 1)
        return (self.uniform < chance.reshape(self.DOCUMENTS, -1)).astype(float)

    def sums(self, correct: np.ndarray) -> np.ndarray:
        """(3, document, bin): tokens, confidences, right answers."""
        which = np.minimum((self.tokens * self.BINS).astype(int), self.BINS - 1) + self.BINS * np.arange(
            self.DOCUMENTS
        ).reshape(-1, 1)
        values = (None, self.tokens.ravel(), correct.ravel())
        made = [np.bincount(which.ravel(), value, self.DOCUMENTS * self.BINS) for value in values]
        return np.stack(made).reshape(3, self.DOCUMENTS, self.BINS)

    def truth(self, correct: np.ndarray | None = None) -> float:
        right = self.correct if correct is None else correct
        return slow_ece(self.confidence.tolist(), right.ravel().tolist(), self.BINS)


def weights_of(documents: int) -> np.ndarray:
    return np.stack([replicate_weights(0, each, calibration.REPLICATES) for each in range(documents)])


def perfect(confidence: np.ndarray) -> np.ndarray:
    return 0 * confidence


def overconfident(confidence: np.ndarray) -> np.ndarray:
    return 0 * confidence - 0.06


def too_cold(confidence: np.ndarray) -> np.ndarray:
    return 0.12 * (0.5 - confidence)


@pytest.mark.parametrize("shift", [perfect, overconfident, too_cold])
def test_the_interval_covers_the_error_of_all_documents(shift: Shift) -> None:
    """In 200 draws of 40 documents, nominally 95 %; the plain value lies beyond the truth by several times the mean
    distance of the corrected one where the model is well calibrated."""
    population, rng = Population(shift), np.random.default_rng(1)
    truth, sums, weights = population.truth(), population.sums(population.correct), weights_of(40)
    drawn = [error_of(sums[:, rng.integers(0, population.DOCUMENTS, 40)], weights) for _ in range(200)]
    covered = np.mean([each.low <= truth <= each.high for each in drawn])
    assert 0.90 <= covered <= 0.98
    bias, plain = (abs(np.mean([getattr(each, name) for each in drawn]) - truth) for name in ("value", "plain"))
    assert bias < 0.004
    assert shift is overconfident or plain > 2 * bias


def test_the_paired_difference_covers_its_truth() -> None:
    population, rng = Population(perfect), np.random.default_rng(2)
    worse = population.right(lambda confidence: 0 * confidence - 0.04)
    truth, weights = population.truth(worse) - population.truth(), weights_of(60)
    every = [population.sums(right) for right in (population.correct, worse)]
    covered = []
    for _ in range(200):
        documents = rng.integers(0, population.DOCUMENTS, 60)
        clean, ablated = (error_of(sums[:, documents], weights) for sums in every)
        _, low, high = calibration.difference(ablated, clean)
        covered.append(low <= truth <= high)
    assert 0.90 <= np.mean(covered) <= 0.98
    assert calibration.difference(clean, clean) == (0, 0, 0)


def test_rows_of_one_document_are_drawn_together() -> None:
    """Every row twice says no more than once; taken for rows of their own the interval would be narrower."""
    population = Population(overconfident)
    confidence, correct = population.tokens[:30].ravel().tolist(), population.correct[:30].ravel().tolist()
    document = [row // (2 * Population.ROW) for row in range(len(confidence))]
    single = calibrated(confidence, correct, document, bins=15).error
    together, apart = (
        calibrated(confidence * 2, correct * 2, document + [each + step for each in document], bins=15).error
        for step in (0, 30)
    )
    assert (together.value, together.low, together.high) == near([single.value, single.low, single.high], 7200)
    assert apart.high - apart.low < 0.9 * (together.high - together.low)


def test_rows_of_one_document_are_added_to_it() -> None:
    """One row after another, whatever comes between, as all at once."""
    rng = np.random.default_rng(3)
    confidence, correct = rng.uniform(0.01, 0.99, 24), (rng.uniform(size=24) < 0.5).astype(float)
    apart, sums, zeros = np.arange(24) // 4 % 3, Sums("", 5), np.zeros(4)
    for start in range(0, 24, 4):
        here = slice(start, start + 4)
        sums.add(Tokens(confidence[here], correct[here], zeros, zeros, zeros), int(apart[start]))
    whole = calibrated(confidence.tolist(), correct.tolist(), apart.tolist(), bins=5).error
    got = sums.result().error
    assert [got.value, got.low, got.high] == near([whole.value, whole.low, whole.high], 24, scale=1.0)


def test_one_document_has_no_interval() -> None:
    error = calibrated([0.2, 0.9], [False, True], [0, 0], bins=5).error
    assert error.value == error.plain
    assert np.isnan([error.low, error.high]).all()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("through_bytes", [0, 1 << 20])
def test_a_set_ablated_equals_a_hooked_pass(architecture: str, through_bytes: int) -> None:
    """Both from the set's vocabulary vectors and, where those have no room, from its residual streams."""
    model = tiny.model(architecture)
    sets = [NeuronSet("clean", (), ()), NeuronSet("set", (3, 17), (0.2, -0.1))]
    made = Predictions(model, sets, through_bytes=through_bytes)

    def ablate(n: torch.Tensor) -> torch.Tensor:
        n = n.clone()
        n[..., 3], n[..., 17] = 0.2, -0.1
        return n

    hook = (f"blocks.{model.last_layer}.mlp.hook_post", ablate)
    for row in (tiny.token_ids(20, seed=seed) for seed in range(3)):
        for found, hooks in zip(made.of_row(row, TokenFilter()), ([], [hook]), strict=True):
            expected: list[list[float]] = []
            p = model.logits(model.tokens(row), hooks=hooks)[0].softmax(-1)
            for t in range(3, len(row) - 1):
                if model.excluded_ids & {row[t], row[t + 1]}:
                    continue
                one_hot = torch.zeros_like(p[t])
                one_hot[row[t + 1]] = 1
                right = float(int(p[t].argmax()) == row[t + 1])
                brier = float((p[t] - one_hot).square().sum())
                entropy = float(-(p[t] * p[t].log()).sum())
                expected.append([float(p[t].max()), right, brier, -float(p[t, row[t + 1]].log()), entropy])
            got = np.stack([found.confidence, found.correct, found.brier, found.loss, found.entropy], 1)
            np.testing.assert_allclose(got, np.array(expected), rtol=0, atol=of_pass(architecture))


def test_nothing_of_a_block_is_kept_between_the_blocks_of_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small results that stay, each between large blocks that go, leave a heap in pieces too small for the next block:
    2.7 GB with SmolLM2 and 30 sets, not given back."""
    kept: list[weakref.ref[torch.Tensor]] = []
    reduced = predictions._reduced

    def watched(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert sum(each() is not None for each in kept) <= 1  # the last field that was copied
        found = reduced(*given)
        kept.extend(map(weakref.ref, found))
        return found

    monkeypatch.setattr(predictions, "_reduced", watched)
    monkeypatch.setattr(predictions, "CACHE_ELEMENTS", 3 * 264)
    row, sets = tiny.token_ids(20), [NeuronSet(str(number), (number,), (0.2,)) for number in range(3)]
    Predictions(tiny.model(), sets).of_row(row, TokenFilter())
    assert len(kept) > 3 * 5 * 5
