"""What a set is compared with: matched, no neuron, never drawn twice; and where it stands among them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from analysis.controls import N_CONTROLS, matched, standing
from analysis.model import Model
from tests.tolerance import of_sum, within


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
def test_controls_have_the_norms_of_the_set_and_are_no_neurons(
    tiny_model: Callable[..., Model], architecture: str
) -> None:
    readout = tiny_model(architecture).readout
    W_out = readout.W_out.clone()
    W_out[3] *= 40  # longer than every other neuron: among these there would be no match
    readout = type(readout)(**{name: getattr(readout, name) for name in readout.__slots__} | {"W_out": W_out})
    indices = [3, 7, 11]
    sets = matched(readout, indices, n_sets=N_CONTROLS, seed=0)
    assert sets.shape == (20, 3, readout.d_model)
    norms = W_out[indices].norm(dim=1)
    within(sets.norm(dim=2), norms.expand(20, 3), of_sum(readout.d_model, scale=float(norms.max())))
    units = torch.cat([sets.flatten(0, 1), W_out])
    units = units / units.norm(dim=1, keepdim=True)
    cosines = (units @ units[:60].T).abs() - torch.eye(len(units), 60)
    assert float(cosines.max()) < 0.999  # neither drawn twice nor along a neuron's direction
    if readout.centred and readout.post_norm is None:
        within(sets.sum(2), torch.zeros(20, 3), of_sum(readout.d_model, scale=float(norms.max())))
    assert torch.equal(sets, matched(readout, indices, n_sets=N_CONTROLS, seed=0))
    assert not torch.equal(sets, matched(readout, indices, n_sets=N_CONTROLS, seed=1))


def test_a_standing_is_its_rank_and_a_valid_p() -> None:
    controls = [0.1 * i for i in range(20)]
    highest, lowest, middle = (standing(value, controls) for value in (5.0, -5.0, 0.95))
    assert highest is not None
    assert lowest is not None
    assert middle is not None
    assert (highest.rank, highest.of, highest.p) == (1, 21, 1 / 21)
    assert (lowest.rank, lowest.p) == (21, 1 / 21)
    assert middle.p == 1.0
    assert (middle.low, middle.high) == (0.0, max(controls))


def test_without_enough_controls_there_is_a_rank_and_no_p() -> None:
    found = standing(5.0, [0.0] * 19)
    assert found is not None
    assert (found.rank, found.p) == (1, None)
    assert standing(None, [1.0]) is standing(1.0, []) is standing(1.0, [None, float("nan")]) is None


def test_p_is_uniform_where_the_set_is_one_of_its_controls() -> None:
    rng = np.random.default_rng(0)
    found = [standing(each[0], each[1:]) for each in rng.standard_normal((2000, 21))]
    p = [each.p for each in found if each is not None and each.p is not None]
    for level in (1 / 21, 5 / 21, 10 / 21):
        below = float(np.mean([value <= level + 1e-9 for value in p]))
        assert abs(below - level) < 4 * (level * (1 - level) / len(p)) ** 0.5  # standard errors
