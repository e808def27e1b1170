"""Token frequency (METHODS section 4, identity 7)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.frequency import freeze_frequency, load_counts, save_counts, unigram
from analysis.types import InputError
from tests.tolerance import close, near, of_sum


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=60), st.integers(0, 7))
@example([0] * 6, 0)  # the mean of six equal logarithms is not that logarithm
@example([10**9] * 5 + [10**9 + 1], 0)
@settings(max_examples=60)
def test_the_distribution_is_smoothed_padded_and_normalised(counts, padding):
    n = len(counts) + padding
    made = unigram(torch.tensor(counts), d_vocab=n, source="x")
    sizes = 1 + float(made.log_p.abs().max())  # exp(log p) has the relative error of log p
    assert float(made.p_freq.sum()) == near(1, n, scale=sizes)
    assert float(made.p_freq[0]) == near((counts[0] + 1) / (sum(counts) + n), sizes)
    assert abs(float(made.direction.sum())) < of_sum(2 * n, scale=n**0.5)
    all_equal = not padding and len(set(counts)) == 1
    assert float(made.direction.norm()) == (0 if all_equal or set(counts) == {0} else near(1, n))


@pytest.mark.parametrize("count", [0, 7, 10**9])
def test_equal_counts_have_no_direction(count):
    """Nothing but rounding is left of v, and a direction of rounding would be the all-ones vector."""
    assert all(not unigram(torch.full((n,), count), d_vocab=n, source="x").direction.any() for n in range(2, 300))


def test_frozen_logits_keep_the_clean_component():
    """Identity 7: z'_f·v^ = z·v^; a change along v is undone, one orthogonal to v is kept."""
    made = unigram(torch.arange(30), d_vocab=30, source="x")
    v = made.direction
    g = torch.Generator().manual_seed(0)
    z, change = (torch.randn(4, 30, generator=g, dtype=torch.float64) for _ in range(2))
    frozen = freeze_frequency(z, z + change, v)
    largest = 3.3 + float((z.norm(dim=1) + change.norm(dim=1)).max())
    close(frozen @ v, z @ v, 2 * 30, scale=largest)
    close(freeze_frequency(z, z + 3.3 * v, v), z, 30, scale=largest)
    orthogonal = change - (change @ v)[:, None] * v
    close(freeze_frequency(z, z + orthogonal, v), z + orthogonal, 2 * 30, scale=largest)


def test_slope_of_the_divergence_along_the_direction():
    """For P_a ~ P exp(a v): dKL(p_freq ‖ P_a)/da = E_Pa[v] - E_pfreq[v]."""
    made = unigram(torch.arange(20), d_vocab=20, source="x")
    z = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    log_p = (z + a * made.direction).log_softmax(-1)
    divergence = (made.p_freq * (made.log_p - log_p)).sum()
    (slope,) = torch.autograd.grad(divergence, a)
    expected = (log_p.exp() * made.direction).sum() - (made.p_freq * made.direction).sum()
    close(slope, expected.detach(), 2 * 20, scale=2)  # two means of a vector of length 1


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


def test_counts_are_of_the_vocabulary_that_they_were_counted_with(tmp_path):
    path = tmp_path / "some" / "counts.npy"
    save_counts(np.arange(5), path, vocabulary="mine")
    assert torch.equal(load_counts(path, d_vocab=6, vocabulary="mine").counts, torch.tensor([0, 1, 2, 3, 4, 0]))
    with pytest.raises(InputError, match="another tokenizer"):
        load_counts(path, d_vocab=6, vocabulary="another")
    assert load_counts(path, d_vocab=6).counts.sum() == 10, "whoever does not say is not asked"
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        load_counts(path, d_vocab=6, vocabulary="mine")
    path.with_suffix(".json").unlink()
    assert load_counts(path, d_vocab=6, vocabulary="another").counts.sum() == 10, "a file that says nothing of itself"
    assert not list(path.parent.glob("*.tmp"))


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
    assert abs(made.entropy - entropy) <= 0.5e-5 + of_sum(d_vocab, scale=entropy)  # published with five decimals
    if name.startswith("gpt2"):
        assert int(made.counts.sum()) == 563_152_038
