"""Calibration against definitions spelled out, and against hooked forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis import calibration
from analysis.calibration import NeuronSet, Tokens
from analysis.types import TokenFilter
from tests import tiny


def tokens_of(confidence: list[float], correct: list[bool], row: list[int]) -> Tokens:
    zeros = np.zeros(len(row))
    return Tokens(np.array(confidence), np.array(correct, dtype=float), zeros, zeros, zeros, np.array(row))


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
    made = calibration.summarise("x", tokens_of(confidence, correct, row), bins=bins)
    assert made.ece == pytest.approx(slow_ece(confidence, correct, bins), abs=1e-9)
    assert 0 <= made.ece <= 1
    assert made.count.sum() == len(confidence)


def test_a_perfectly_calibrated_source_has_a_small_error_and_an_overconfident_one_a_large_one() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 20_000)
    row = np.arange(20_000) // 200
    good = calibration.summarise("good", tokens_of(confidence, rng.uniform(size=20_000) < confidence, row), bins=10)
    bad = calibration.summarise("bad", tokens_of(confidence, rng.uniform(size=20_000) < confidence - 0.1, row), bins=10)
    assert good.ece < 0.02
    assert bad.ece == pytest.approx(0.1, abs=0.02)
    assert good.ece_interval[1] < bad.ece_interval[0]
    assert bad.ece_interval[0] < bad.ece < bad.ece_interval[1]


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_a_set_ablated_equals_a_hooked_pass(architecture: str) -> None:
    model = tiny.model(architecture)
    rows = [tiny.token_ids(20, seed=seed) for seed in range(3)]
    chosen = NeuronSet("set", (3, 17), (0.2, -0.1))
    *_, (_, (clean, ablated)) = calibration.run(model, rows, [NeuronSet("clean", (), ()), chosen], TokenFilter())

    def ablate(n: torch.Tensor) -> torch.Tensor:
        n = n.clone()
        n[..., 3], n[..., 17] = 0.2, -0.1
        return n

    hook = (f"blocks.{model.last_layer}.mlp.hook_post", ablate)
    for found, hooks in ((clean, []), (ablated, [hook])):
        expected: list[list[float]] = []
        for number, row in enumerate(rows):
            p = model.logits(model.tokens(row), hooks=hooks)[0].softmax(-1)
            for t in range(3, len(row) - 1):
                if model.excluded_ids & {row[t], row[t + 1]}:
                    continue
                one_hot = torch.zeros_like(p[t])
                one_hot[row[t + 1]] = 1
                right = float(int(p[t].argmax()) == row[t + 1])
                brier = float((p[t] - one_hot).square().sum())
                entropy = float(-(p[t] * p[t].log()).sum())
                expected.append([float(p[t].max()), right, brier, -float(p[t, row[t + 1]].log()), entropy, number])
        got = np.stack([found.confidence, found.correct, found.brier, found.loss, found.entropy, found.row], 1)
        np.testing.assert_allclose(got, np.array(expected), rtol=1e-6, atol=1e-8)
