"""The spectrum, its knee, rho and what chance gives (METHODS section 2, identity 6)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import nullspace
from analysis.model import Model
from analysis.nullspace import Spectrum
from analysis.types import InputError
from tests import tiny


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_the_streamed_spectrum_is_the_svd(tiny_model: Callable[..., Model], name: str) -> None:
    readout = tiny_model(name).readout
    found = nullspace.spectrum(readout)
    _, S, _ = torch.linalg.svd(readout.W_U.double(), full_matrices=False)
    torch.testing.assert_close(found.S, S, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.U.T @ found.U, torch.eye(len(S), dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close((found.U.T @ readout.W_U.double()).norm(dim=1), S, rtol=1e-9, atol=1e-11)


def test_small_singular_values_are_not_lost_to_squaring() -> None:
    """Eight orders of magnitude below the largest: a Gram matrix would have rounded them away."""
    g = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(16, 16, generator=g, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(900, 16, generator=g, dtype=torch.float64)).Q
    S = torch.logspace(2, -9, 16, dtype=torch.float64)
    *_, R = nullspace.triangle(left @ torch.diag(S) @ right.T)
    torch.testing.assert_close(nullspace.decompose(R, trivial=False).S, S, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_uncentred_spectrum_needs_no_second_pass(tiny_model: Callable[..., Model], name: str) -> None:
    readout = tiny_model(name).readout
    *_, R = nullspace.triangle(readout.W_U)
    found = nullspace.decompose(nullspace.uncentred_triangle(R, readout), trivial=readout.centred)
    torch.testing.assert_close(found.S, nullspace.spectrum(readout.uncentred()).S, rtol=1e-9, atol=1e-11)


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_knee_is_the_first_fall_in_the_second_half() -> None:
    assert nullspace.knee(values(9, 8, 7, 6, 5, 4, 1, 0.5), trivial=False) == 5
    assert nullspace.knee(values(9, 1, 1, 1, 1, 1, 1, 1), trivial=False) is None  # falls in the first half only
    assert nullspace.knee(values(9, 8, 7, 6, 5, 4, 1, 0.5), trivial=True) == 5


def test_the_zero_of_centring_is_no_knee() -> None:
    smooth = values(9, 8, 7, 6, 5.5, 5, 4.5, 1e-15)
    assert nullspace.knee(smooth, trivial=True) is None
    assert nullspace.knee(smooth, trivial=False) == 6


def test_offered_exact_zeros_are_a_knee() -> None:
    assert nullspace.knee(values(9, 8, 7, 6, 5, 4, 1e-15, 1e-16), trivial=True) == 5


def test_k_counts_the_trivial_direction_and_falls_back_to_one_percent() -> None:
    identity = torch.eye(200, dtype=torch.float64)
    assert Spectrum(identity, torch.ones(200, dtype=torch.float64), 187, True).k == 12  # as GPT-2: d 768, knee 755
    assert Spectrum(identity, torch.ones(200, dtype=torch.float64), None, True).k == 2
    with pytest.raises(InputError, match="between 1 and"):
        Spectrum(identity, torch.ones(200, dtype=torch.float64), None, True).chosen(0)


def test_a_trivial_direction_is_the_all_ones_vector(tiny_model: Callable[..., Model]) -> None:
    found = nullspace.spectrum(tiny_model("gpt2").readout)
    ones = torch.ones(found.d_model, dtype=torch.float64) / found.d_model**0.5
    assert float((found.basis(1)[:, 0] @ ones).abs()) == pytest.approx(1, abs=1e-9)
    assert not nullspace.spectrum(tiny_model("llama").readout).trivial


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3))
def test_rho_grows_with_k_to_one_and_ignores_length(seed: int, factor: float) -> None:
    g = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(12, 12, generator=g, dtype=torch.float64)).Q
    spectrum = Spectrum(U, torch.arange(12, 0, -1, dtype=torch.float64), None, False)
    row = torch.randn(1, 12, generator=g, dtype=torch.float64)
    by_k = [float(nullspace.rho(row, spectrum.basis(k))) for k in range(1, 13)]
    assert all(b >= a - 1e-12 for a, b in pairwise(by_k))
    assert by_k[-1] == pytest.approx(1)
    assert float(nullspace.rho(row * factor, spectrum.basis(5))) == pytest.approx(by_k[4])
    squares = nullspace.cosines(row[0], spectrum).square()
    assert float(squares.sum()) == pytest.approx(1)
    assert float(squares[-5:].sum()) == pytest.approx(by_k[4] ** 2)
    assert nullspace.share(row, spectrum.basis(5)) == pytest.approx(by_k[4] ** 2)


@pytest.mark.parametrize("trivial", [True, False])
def test_chance_is_what_random_directions_do(trivial: bool) -> None:
    d, k, n = 40, 6, 300
    expected = nullspace.chance(d, k, n, trivial=trivial)
    U = torch.eye(d, dtype=torch.float64)
    if trivial:  # the last column is the all-ones direction, the others any basis of what is orthogonal to it
        U[:, 0] = 1
        U = torch.linalg.qr(U).Q.flip(1)
    basis = U[:, d - k :]
    drawn = [nullspace.rho(nullspace.random_rows(torch.ones(n), d, centred=trivial, seed=s), basis) for s in range(200)]
    squares = torch.stack(drawn).square()
    assert float(squares.mean()) == pytest.approx(expected.rms**2, rel=0.02)
    assert expected.rms**2 == pytest.approx((k - 1) / (d - 1) if trivial else k / d)
    assert float(torch.stack([r.max() for r in drawn]).mean()) == pytest.approx(expected.maximum, rel=0.02)
    assert expected.low < expected.maximum < expected.high


def test_chance_at_the_ends() -> None:
    assert nullspace.chance(10, 1, 5, trivial=True).maximum == 0
    assert nullspace.chance(10, 10, 5, trivial=False).rms == 1


def test_controls_have_the_norms_they_were_given() -> None:
    rows = nullspace.random_rows(torch.tensor([1.0, 2.5, 7.0]), 24, centred=True)
    torch.testing.assert_close(rows.norm(dim=1), torch.tensor([1.0, 2.5, 7.0], dtype=torch.float64))
    torch.testing.assert_close(rows.sum(1), torch.zeros(3, dtype=torch.float64))
    assert tiny.D_VOCAB != 24
