"""Token frequency (METHODS section 4, identity 7)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.frequency import freeze_frequency, load_counts, unigram
from analysis.types import InputError


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=60), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_the_distribution_is_smoothed_padded_and_normalised(counts, padding):
    made = unigram(torch.tensor(counts), d_vocab=len(counts) + padding, source="x")
    assert math.isclose(float(made.p_freq.sum()), 1, rel_tol=1e-12)
    total = sum(counts) + len(counts) + padding
    assert math.isclose(float(made.p_freq[0]), (counts[0] + 1) / total, rel_tol=1e-9)
    assert abs(float(made.direction.sum())) < 1e-9
    norm = float(made.direction.norm())
    assert math.isclose(norm, 1, rel_tol=1e-9) or norm == 0


def test_frozen_logits_keep_the_clean_component():
    """Identity 7: z'_f·v^ = z·v^; a change along v is undone, one orthogonal to v is kept."""
    made = unigram(torch.arange(30), d_vocab=30, source="x")
    v = made.direction
    g = torch.Generator().manual_seed(0)
    z, change = (torch.randn(4, 30, generator=g, dtype=torch.float64) for _ in range(2))
    frozen = freeze_frequency(z, z + change, v)
    torch.testing.assert_close(frozen @ v, z @ v)
    torch.testing.assert_close(freeze_frequency(z, z + 3.3 * v, v), z)
    orthogonal = change - (change @ v)[:, None] * v
    torch.testing.assert_close(freeze_frequency(z, z + orthogonal, v), z + orthogonal)


def test_slope_of_the_divergence_along_the_direction():
    """For P_a ~ P exp(a v): dKL(p_freq ‖ P_a)/da = E_Pa[v] - E_pfreq[v]."""
    made = unigram(torch.arange(20), d_vocab=20, source="x")
    z = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    log_p = (z + a * made.direction).log_softmax(-1)
    divergence = (made.p_freq * (made.log_p - log_p)).sum()
    (slope,) = torch.autograd.grad(divergence, a)
    expected = (log_p.exp() * made.direction).sum() - (made.p_freq * made.direction).sum()
    torch.testing.assert_close(slope, expected.detach())


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), int), np.ones(4), np.array([1, -2]), np.ones(99, int)],
    ids=["2d", "float", "neg", "long"],
)
def test_files_that_are_no_counts_are_refused(array, tmp_path):
    path = tmp_path / "counts.npy"
    np.save(path, array)
    with pytest.raises(InputError):
        load_counts(path, d_vocab=10)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "counts.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        load_counts(path, d_vocab=10)


@pytest.mark.parametrize(
    ("name", "d_vocab", "entropy"),
    [
        ("gpt2-small-unigrams_openwebtext-2M_rows_500000.npy", 50257, 7.56967),
        ("pythia-unigrams.npy", 50304, 7.92109),
        ("phi-2-unigrams_c4_en_validation.npy", 50295, 7.66079),
    ],
)
def test_published_counts_have_the_published_entropy(name, d_vocab, entropy, shared: Path):
    made = load_counts(shared / "data" / "unigrams" / name, d_vocab=d_vocab)
    assert math.isclose(made.entropy, entropy, abs_tol=6e-6)
    if name.startswith("gpt2"):
        assert int(made.counts.sum()) == 563_152_038
