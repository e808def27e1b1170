"""What a set of neurons is compared with, and where it stands among them.

A control of a set writes the same changes of activation along other directions: for neuron i a direction drawn at
random, centred where the model's write rows are, as long as w_i (METHODS section 2: norm-matched). At every token the
residual stream is moved as far as by the set, only not towards where it writes. A direction is no neuron of the
layer, so no control carries a label, and none is drawn twice.

With N controls, the set's number x_0 and theirs x_1 ... x_N, the Monte Carlo p-value of "it is one of them" is

    p = #{i in 0..N : |x_i - median| >= |x_0 - median|} / (N + 1),   median over all N + 1

two-sided, and valid for every N because the set counts itself (Phipson and Smyth 2010, "Permutation p-values should
never be zero"). It cannot be below 1 / (N + 1): with fewer than 20 controls none is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from analysis.nullspace import random_rows
from analysis.readout import Readout

N_CONTROLS = 20
"""Sets of random directions beside one set, as in the paper; the fewest with which p can be below 0.05."""


def matched(
    readout: Readout, indices: Sequence[int], *, n_sets: int, seed: int
) -> Float[Tensor, "{n_sets} {len(indices)} d_model"]:
    """Random directions for each of some last-layer neurons, as long as what the neuron writes."""
    norms = readout.W_out[list(indices)].double().norm(dim=1)
    centred = readout.centred and readout.post_norm is None
    rows = random_rows(norms.repeat(n_sets), readout.d_model, centred=centred, seed=seed)
    return rows.view(n_sets, len(indices), readout.d_model).to(readout.W_out)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a number stands among those of its controls.

    rank: 1 where it is the largest of all ``of`` = N + 1 numbers, controls and itself; equal ones share the better
    rank. p: two-sided, as above; None with fewer than N_CONTROLS controls.
    """

    value: float
    rank: int
    of: int
    low: float
    high: float
    p: float | None


def standing(value: float | None, controls: Iterable[float | None]) -> Standing | None:
    """Where ``value`` stands among its controls; None where it, or every control, is unknown."""
    others = np.array([each for each in controls if each is not None and np.isfinite(each)], dtype=float)
    if value is None or not np.isfinite(value) or not len(others):
        return None
    every = np.append(others, value)
    far = np.abs(every - np.median(every))
    return Standing(
        value=float(value),
        rank=1 + int((others > value).sum()),
        of=len(every),
        low=float(others.min()),
        high=float(others.max()),
        p=float((far >= far[-1]).mean()) if len(others) >= N_CONTROLS else None,
    )
