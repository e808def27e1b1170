"""Random neurons to compare with: as large as the chosen ones, otherwise arbitrary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.induction.steps import seeded
from analysis.types import InputError

POOL = 50
"""How many neurons of the nearest norm a control is drawn from."""


def matched_sets(
    norms: Float[Tensor, " d_mlp"], neurons: Sequence[int], *, n_sets: int, seed: int, pool: int = POOL
) -> list[tuple[int, ...]]:
    """``n_sets`` sets of other neurons: for each neuron a random one of the ``pool`` that are nearest to it in norm.

    None of a set's neurons is among ``neurons`` or drawn twice in one set. InputError where the layer is too small.
    """
    free = len(norms) - len(neurons)
    if free < len(neurons):
        raise InputError(
            f"{len(neurons)} of {len(norms)} neurons are chosen; too few are left for controls.",
            code="too_many_neurons",
        )
    distance = (norms[None, :] - norms[list(neurons), None]).abs()
    distance[:, list(neurons)] = torch.inf
    nearest = distance.argsort(dim=1, stable=True)[:, : min(max(pool, len(neurons)), free)].tolist()
    generator = seeded(seed)
    sets = []
    for _ in range(n_sets):
        drawn: list[int] = []
        for candidates in nearest:
            open_to = [index for index in candidates if index not in drawn]
            drawn.append(open_to[int(torch.randint(len(open_to), (1,), generator=generator))])
        sets.append(tuple(drawn))
    return sets
