"""What a step is made of: rows, loss, optimiser."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tolerance import close
from training.loss import CHUNK, cross_entropy
from training.model import GPT
from training.optimiser import MatrixAdam, build_optimisers, orthogonalise
from training.recipe import Corruption, Recipe
from training.rows import Rows, corrupt, repeat


@pytest.mark.parametrize("n", [5, CHUNK, CHUNK + 7])
def test_chunked_loss_and_its_gradients_are_those_of_the_whole(n: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(1, n, 8, requires_grad=True)
    unembed = torch.randn(30, 8, requires_grad=True)
    targets = torch.randint(30, (1, n))
    ours = torch.autograd.grad(3 * cross_entropy(hidden, unembed, targets), (hidden, unembed))
    whole = 3 * F.cross_entropy((hidden @ unembed.T)[0], targets[0])
    theirs = torch.autograd.grad(whole, (hidden, unembed))
    close(3 * cross_entropy(hidden, unembed, targets), whole, n + 30 + 8)
    for got, expected, other in zip(ours, theirs, (unembed, hidden), strict=True):
        close(got, expected, n + 30 + 8, scale=3 * float(other.detach().abs().max()))


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 12, 40), (1, 40, 12)])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert singular.min() > 0.5
    assert singular.max() < 1.4


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_a_corrupted_row_differs_at_about_its_rate(seed: int) -> None:
    ids = np.full(2_000, 7)
    p = np.full(5_000, 1 / 5_000)
    noisy, rate = corrupt(ids, Corruption(), p, np.random.default_rng(seed))
    assert 0.1 <= rate <= 0.6
    assert abs((noisy != ids).mean() - rate) < 0.06
    assert (ids == 7).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_a_repeated_row_has_a_period(seed: int) -> None:
    row = repeat(np.arange(128), 4_096, np.random.default_rng(seed))
    assert any((row[period:] == row[:-period]).all() for period in range(16, 65))


def test_every_row_of_text_is_seen_once_an_epoch(run_folder: Path, recipe: Recipe) -> None:
    rows = Rows.open(run_folder, recipe)
    length = recipe.shape.n_ctx
    n = len(rows.stream) // length - 1
    rows = Rows(recipe, np.arange(len(rows.stream), dtype=np.uint16), rows.tail, rows.p_unigram)
    for epoch in range(2):
        starts = sorted(int(rows.window(epoch * n + i)[0]) for i in range(n))
        assert np.diff(starts).tolist() == [length] * (n - 1)


def test_a_step_depends_on_its_number_alone(run_folder: Path, recipe: Recipe) -> None:
    first, second = (Rows.open(run_folder, recipe) for _ in range(2))
    second.step(3)
    assert (first.step(5) == second.step(5)).all()
    assert (first.step(5)[:, 0] == 0).all()
    assert first.step(5).shape == (recipe.rows, recipe.shape.n_ctx + 1)


def test_the_rate_rises_and_stays_then_rises_and_falls() -> None:
    recipe = Recipe()
    factors = [recipe.rate_factor(step) for step in range(recipe.steps)]
    first, settling = factors[: recipe.settle_step], factors[recipe.settle_step :]
    assert first == sorted(first)
    assert set(first[first.index(1.0) :]) == {1.0}
    top = settling.index(max(settling))
    assert settling[: top + 1] == sorted(settling[: top + 1])
    assert settling[top:] == sorted(settling[top:], reverse=True)
    assert max(settling) > 0.99
    assert settling[-1] == min(factors) == 0.02


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("settling", [False, True])
def test_every_parameter_has_one_optimiser(settling: bool, tied: bool, recipe: Recipe) -> None:
    model = GPT(replace(recipe.shape, tied=tied))
    held = [
        p for o in build_optimisers(model, recipe.rates, settling=settling) for g in o.param_groups for p in g["params"]
    ]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_matrix_adam_keeps_the_proportions_of_the_gradient() -> None:
    """Against Adam on a matrix whose gradient has one size: the same steps. A weak row moves in proportion."""
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), [torch.randn(4, 3).sign() for _ in range(5)]
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    one = MatrixAdam([{"params": [ours], "lr": 0.1, "weight_decay": 0.2}], betas=(0.9, 0.97), eps=1e-8)
    two = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.2, betas=(0.9, 0.97), eps=1e-8)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        two.step()
    close(ours, theirs, 5 * 8)  # five steps of the moments, their roots, and the decay
    weak = torch.nn.Parameter(torch.zeros(2, 3))
    optimiser = MatrixAdam([{"params": [weak], "lr": 0.1}], betas=(0.9, 0.97), eps=1e-8)
    weak.grad = torch.tensor([[1.0], [1e-3]]).expand(2, 3).clone()
    optimiser.step()
    assert float(weak.detach()[0, 0] / weak.detach()[1, 0]) == pytest.approx(1e3, rel=1e-3)


def test_a_recipe_is_changed_by_name_and_read_back(tmp_path: Path, recipe: Recipe) -> None:
    changed = recipe.changed([("seed", "3"), ("shape.slots", "0"), ("shape.tied", "true"), ("corruption.share", ".6")])
    assert (changed.seed, changed.shape.slots, changed.shape.tied, changed.corruption.share) == (3, 0, True, 0.6)
    assert replace(changed, seed=0, shape=recipe.shape, corruption=recipe.corruption) == recipe
    changed.save(tmp_path)
    assert Recipe.of(tmp_path) == changed


@pytest.mark.parametrize("name", ["slots", "shape", "shape.", "shape.heads", "seed.more", ""])
def test_a_number_that_the_recipe_lacks_is_refused(name: str, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="no number"):
        recipe.changed([(name, "1")])


def test_a_value_that_is_no_number_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="slots"):
        recipe.changed([("shape.slots", "few")])
