"""The sets that a sweep's figures and its calibration show, from numbers written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.sets import Path, Sets
from analysis.sweep import Result
from analysis.sweep.result import Halves
from analysis.types import NeuronId

NAN = float("nan")
CHANCE = 0.4
#            0     1    2    3    4    5    the neurons, by place
TOTAL = (0.90, 0.80, 0.7, 0.6, NAN, 0.1)
FROZEN = (0.10, 0.10, 0.1, 0.1, 0.1, 0.2)
SIZE = (0.39, 0.95, 0.4, 0.5, 0.99, 0.9)  # rho, or the alignment


def sets(size: tuple[float, ...] = SIZE, *, path: Path = "direct", halves: Halves | None = None) -> Sets:
    none = np.zeros((0, 6))
    first = {
        "total.abs_loss": np.array(TOTAL),
        f"{path}.abs_loss": np.array(FROZEN),
        "total.abs_entropy": np.array(TOTAL),
    }
    other = {name: column[::-1] for name, column in first.items()}  # chosen by them the sets would be others
    table = first if halves is None else {f"choosing.{n}": c for n, c in first.items()} | {
        f"showing.{n}": c for n, c in other.items()
    } | other  # fmt: skip
    neurons = tuple(NeuronId(1, index) for index in range(6))
    result = Result(
        neurons, ("total", "direct", "frequency"), table, {}, 1, 10, none, none, none, none, none, none, none,
        halves=halves,
    )  # fmt: skip
    sign = np.array([1, -1, 1, -1, 1, -1])  # an alignment of either sign counts
    weights = {"rho": np.array(size), "frequency_alignment": sign * np.array(size), "norm": np.ones(6)}
    return Sets(result, weights, CHANCE, CHANCE)


PATHS = pytest.mark.parametrize("path", ["direct", "frequency"])


@PATHS
def test_the_strongest_lie_beyond_chance_however_large_the_effect_of_others(path: Path) -> None:
    """0 has the largest effect, and what the best random direction reaches; so has 2, exactly. 5 loses nothing."""
    made = sets(path=path)
    assert made.ranked(path) == [0, 1, 2, 3, 5]
    assert made.strongest(path, 6) == [1, 3]
    assert made.strongest(path, 1) == [1]


@PATHS
def test_none_found_is_an_answer(path: Path) -> None:
    """Nobody is taken for want of better ones."""
    made = sets((0.1, 0.2, 0.3, 0.4, 0.39, 0.0), path=path)
    assert made.strongest(path, 6) == []
    place, why = made.one()
    assert place == 0
    assert "none has an LN-mediated effect beyond chance" in why
    unknown = replace(made, chance_rho=NAN, chance_alignment=NAN)
    assert unknown.strongest(path, 6) == []


@PATHS
def test_an_effect_that_is_not_known_is_not_strong(path: Path) -> None:
    """4 has the largest rho of all; what ablating it does is not known."""
    assert 4 not in sets(path=path).strongest(path, 6)
    assert sets(path=path).strongest("frequency" if path == "direct" else "direct", 6) == []


@PATHS
def test_sets_are_chosen_on_one_half_and_shown_on_the_other(path: Path) -> None:
    made = sets(path=path, halves=Halves("documents", (2, 2), (3, 4)))
    assert made.strongest(path, 6) == [1, 3]
    np.testing.assert_array_equal(made.shown("total.abs_loss"), np.array(TOTAL[::-1]))
    whole = sets(path=path, halves=Halves("rows", (1, 0), (1, 0)))  # a single row: the half to show is empty
    assert whole.halves is None
