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
from analysis.readout import Readout, fold
from analysis.types import InputError
from tests import tiny
from tests.tolerance import close, near, of_sum

TERMS = tiny.D_VOCAB + tiny.D_MODEL
"""A column of R is a sum over the vocabulary, a singular value one over d_model."""


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_the_streamed_spectrum_is_the_svd(tiny_model: Callable[..., Model], name: str) -> None:
    readout = tiny_model(name).readout
    found = nullspace.spectrum(readout)
    _, S, _ = torch.linalg.svd(readout.W_U.double(), full_matrices=False)
    # Every singular value is off by rounding of the largest (Weyl).
    close(found.S, S, TERMS)
    close(found.U.T @ found.U, torch.eye(len(S), dtype=torch.float64), TERMS)
    close((found.U.T @ readout.W_U.double()).norm(dim=1), S, TERMS)


def of_matrix(W_U: torch.Tensor, *, layer_norm: bool = False, dtype: torch.dtype = torch.float64) -> Readout:
    """A readout with this unembedding and nothing else of interest."""
    d_model = W_U.shape[0]
    return fold(
        W_U=W_U.to(dtype), b_U=None, W_out=torch.ones(1, d_model, dtype=dtype), gain=torch.ones(d_model, dtype=dtype),
        bias=None, eps=1e-5, layer_norm=layer_norm, centre_vocab=layer_norm,
    )  # fmt: skip


def random_matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_small_singular_values_are_not_lost_to_squaring() -> None:
    """Eleven orders of magnitude below the largest: a Gram matrix would have rounded them away."""
    g = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(16, 16, generator=g, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(900, 16, generator=g, dtype=torch.float64)).Q
    S = torch.logspace(2, -9, 16, dtype=torch.float64)
    found = nullspace.spectrum(of_matrix(left @ torch.diag(S) @ right.T)).S
    close(found, S, 900 + 16)
    assert (found / S - 1).abs().max() < 0.1  # what rounding of the largest leaves of the smallest
    assert of_sum(900 + 16, scale=100) < 0.1 * 1e-9


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_uncentred_spectrum_needs_no_second_pass(tiny_model: Callable[..., Model], name: str) -> None:
    readout = tiny_model(name).readout
    *_, R = nullspace.triangle(readout.W_U)
    found = nullspace.decompose(nullspace.uncentred_triangle(R, readout), readout)
    close(found.S, nullspace.spectrum(readout.uncentred()).S, TERMS)


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_the_knee_is_the_first_fall_in_the_second_half() -> None:
    assert nullspace.knee(values(9, 8, 7, 6, 5, 4, 1, 0.5), trivial=False) == 5
    assert nullspace.knee(values(9, 1, 1, 1, 1, 1, 1, 1), trivial=False) is None  # falls in the first half only
    assert nullspace.knee(values(9, 8, 7, 6, 5, 4, 1, 0.5), trivial=True) == 5


def test_the_zero_of_centring_is_no_knee() -> None:
    smooth = values(9, 8, 7, 6, 5.5, 5, 4.5, 0)
    assert nullspace.knee(smooth, trivial=True) is None
    assert nullspace.knee(smooth, trivial=False) == 6


def test_exact_zeros_are_a_knee_wherever_they_begin() -> None:
    assert nullspace.knee(values(9, 8, 7, 6, 5, 4, 0, 0), trivial=True) == 5
    assert nullspace.knee(values(9, 8, 7, 0, 0, 0, 0, 0), trivial=True) == 2
    assert nullspace.knee(values(9, 0, 0, 0), trivial=False) == 0
    assert nullspace.knee(values(9, 8, 7, 6, 5, 0, 0, 0), trivial=False) == 4  # the first one looked at
    assert nullspace.knee(values(0, 0, 0), trivial=False) is None


def spread(*numbers: float, knee: int | None = None, trivial: bool = False, resolution: float = 0.0) -> Spectrum:
    """A spectrum with these singular values, whatever its directions."""
    return Spectrum(torch.eye(len(numbers), dtype=torch.float64), values(*numbers), knee, trivial, resolution)


def test_k_counts_the_trivial_direction_and_falls_back_to_one_percent() -> None:
    falling = torch.linspace(2, 1, 200, dtype=torch.float64).tolist()
    assert spread(*falling, knee=187, trivial=True).k == 12  # as GPT-2: d 768, knee 755
    assert spread(*falling, trivial=True).k == 2
    for k in (0, 201):
        with pytest.raises(InputError, match="between 1 and"):
            spread(*falling).chosen(k)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("d_vocab", [5, 9, 20])
def test_k_is_at_least_the_exact_null_space(d_vocab: int, layer_norm: bool, dtype: torch.dtype) -> None:
    """A vocabulary smaller than d_model: nothing moves a logit outside of d_vocab directions (one less centred)."""
    d_model = 40  # at least twice the rank: the fall to zero is the first that counts
    found = nullspace.spectrum(of_matrix(3 * random_matrix(d_model, d_vocab), layer_norm=layer_norm, dtype=dtype))
    rank = d_vocab - layer_norm
    assert (found.exact, found.knee, found.k) == (d_model - rank, rank - 1, d_model - rank)
    assert found.built_in == d_model - rank - layer_norm
    assert found.fall == float("inf")
    assert not found.weak
    assert [found.chosen(k) for k in (found.exact, found.exact + 1)] == [found.exact, found.exact + 1]
    for k in (1, found.exact - 1):
        with pytest.raises(InputError, match=f"k = {k} parts {found.exact} equal singular values"):
            found.chosen(k)


def test_rho_does_not_depend_on_the_basis_that_the_decomposition_happened_to_give() -> None:
    """Two bases of an exact null space of 31: any k that is accepted gives the same rho from both."""
    W_U, rows = random_matrix(40, 9), random_matrix(20, 40, seed=1)
    one = nullspace.spectrum(of_matrix(W_U))
    other = nullspace.spectrum(of_matrix(W_U[:, torch.randperm(9, generator=torch.Generator().manual_seed(2))]))
    accepted = [k for k in range(1, 41) if not refused(one, k)]
    assert accepted == list(range(31, 41))
    for k in accepted:
        close(nullspace.rho(rows, one.basis(k)), nullspace.rho(rows, other.basis(k)), 40 * 40, scale=10)
        ahead = [spectrum.direction(40 - k, rows[0]) for spectrum in (one, other)]
        close(ahead[0], ahead[1], 40 * 40, scale=10)
        assert float(ahead[0].norm()) == near(1, 40)
        assert float(ahead[0] @ rows[0]) > 0
    # And so does every single cosine, for the 31 share theirs.
    close(nullspace.cosines(rows[0], one), nullspace.cosines(rows[0], other), 40 * 40, scale=10)


def test_equal_singular_values_are_not_parted() -> None:
    """Whether they are equal to the last digit, or as far as the weights' number format tells."""
    exactly = spread(5, 4, 3, 3, 3, 2, 1, 0.5)
    assert [k for k in range(1, 9) if refused(exactly, k)] == [4, 5]
    with pytest.raises(InputError, match=r"k = 4 parts 3 equal singular values \(S\[2\] to S\[4\], all 3\)") as caught:
        exactly.chosen(4)
    assert caught.value.hint == "Choose k = 6 or more, or 3 or less."
    assert spread(5, 4, 3, 3 - 1e-9, 2, 1, resolution=1e-8).k == 1
    assert refused(spread(5, 4, 3, 3 - 1e-9, 2, 1, resolution=1e-8), 3)
    assert not refused(spread(5, 4, 3, 3 - 1e-9, 2, 1, resolution=1e-10), 3)
    # The rule's own k gives way: a knee that is one place behind the first of three equal values.
    assert spread(5, 4, 3, 3, 3, 1, knee=2).k == 4


def refused(spectrum: Spectrum, k: int) -> bool:
    try:
        spectrum.chosen(k)
    except InputError as error:
        return error.code == "k_parts_equal_values"
    return False


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_orthogonal_unembedding_has_no_directions_of_its_own(dtype: torch.dtype) -> None:
    """All singular values equal: any k would be arbitrary, and what is left is the whole space."""
    Q = torch.linalg.qr(random_matrix(300, 24)).Q.T
    found = nullspace.spectrum(of_matrix(Q, dtype=dtype))
    assert found.exact == 0
    assert found.k == 24
    assert all(refused(found, k) for k in range(1, 24))
    row = random_matrix(24, seed=1)
    close(nullspace.cosines(row, found), torch.full((24,), 24**-0.5, dtype=torch.float64), 24)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_directions_held_at_zero_are_told_from_the_one_that_centring_makes(dtype: torch.dtype) -> None:
    """Eight rows of zeros: centring over d_model leaves seven exact null directions of them, and adds its own."""
    W_U = random_matrix(32, 300)
    W_U[-8:] = 0
    found = nullspace.spectrum(of_matrix(W_U, layer_norm=True, dtype=dtype))
    assert (found.exact, found.built_in, found.k) == (8, 7, 9)
    ones = torch.ones(32, dtype=torch.float64) / 32**0.5
    close((found.U.T @ ones).abs(), torch.eye(32, dtype=torch.float64)[-1], 300, dtype=dtype)
    close(found.U.T @ found.U, torch.eye(32, dtype=torch.float64), 2 * 300)


def test_a_weak_knee_is_said_to_be_weak() -> None:
    weak, clear = spread(9, 8, 7, 6, 3.87, 2.5, 2.4, knee=4), spread(9, 8, 7, 6, 5, 1, 0.9, knee=4)
    assert weak.fall == near(1.548, 1)
    assert weak.weak
    assert not clear.weak
    assert clear.largest_fall == (4, 5)
    assert not spread(9, 8, 7, 6).weak


def test_a_trivial_direction_is_the_all_ones_vector(tiny_model: Callable[..., Model]) -> None:
    found = nullspace.spectrum(tiny_model("gpt2").readout)
    ones = torch.ones(found.d_model, dtype=torch.float64) / found.d_model**0.5
    assert float((found.basis(1)[:, 0] @ ones).abs()) == near(1, TERMS)
    assert not nullspace.spectrum(tiny_model("llama").readout).trivial


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3))
def test_rho_grows_with_k_to_one_and_ignores_length(seed: int, factor: float) -> None:
    g = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(12, 12, generator=g, dtype=torch.float64)).Q
    spectrum = Spectrum(U, torch.arange(12, 0, -1, dtype=torch.float64), None, False)
    row = torch.randn(1, 12, generator=g, dtype=torch.float64)
    by_k = [float(nullspace.rho(row, spectrum.basis(k))) for k in range(1, 13)]
    n = 2 * 12  # a product with a basis, and the norm of that
    assert all(b >= a - of_sum(n) for a, b in pairwise(by_k))
    assert by_k[-1] == near(1, n)
    assert float(nullspace.rho(row * factor, spectrum.basis(5))) == near(by_k[4], n, scale=1)
    squares = nullspace.cosines(row[0], spectrum).square()
    assert float(squares.sum()) == near(1, n)
    assert float(squares[-5:].sum()) == near(by_k[4] ** 2, n, scale=1)
    assert nullspace.share(row, spectrum.basis(5)) == near(by_k[4] ** 2, n, scale=1)


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
    assert expected.rms**2 == near((k - 1) / (d - 1) if trivial else k / d, 4)
    assert float(torch.stack([r.max() for r in drawn]).mean()) == pytest.approx(expected.maximum, rel=0.02)
    assert expected.low < expected.maximum < expected.high


def test_chance_at_the_ends() -> None:
    assert nullspace.chance(10, 1, 5, trivial=True).maximum == 0
    assert nullspace.chance(10, 10, 5, trivial=False).rms == 1


def test_controls_have_the_norms_they_were_given() -> None:
    rows = nullspace.random_rows(torch.tensor([1.0, 2.5, 7.0]), 24, centred=True)
    close(rows.norm(dim=1), torch.tensor([1.0, 2.5, 7.0], dtype=torch.float64), 24)
    close(rows.sum(1), torch.zeros(3, dtype=torch.float64), 2 * 24, scale=7 * 24**0.5)
    assert tiny.D_VOCAB != 24
