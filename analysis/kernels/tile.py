"""What a backend is given and what it gives back.

The intervened logits of token t, neuron n and one condition are

    pre = base[t] + sum_b coef.bases[b, t, n] * bases[b, t] + coef.row[t, n] * rows[n]
    u   = cap(pre) - shift[t] + coef.direction[t, n] * direction

``base`` holds clean logits and ``shift`` the clean log-partition (None where it is already taken off ``base``), so the
clean distribution is exp(u) and exp needs no pass for the maximum: a sum that leaves the safe range is done again with
one.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The scalars of one condition; None where the condition leaves that part at its clean value.

    thresholds: u of some marked tokens plus the rounding error of u; the tokens above each are counted: the rank of the
    target, and whether the clean argmax still is one (none above).
    """

    bases: Float[Tensor, "b pos n"] | None = None
    row: Float[Tensor, "pos n"] | None = None
    direction: Float[Tensor, "pos n"] | None = None
    thresholds: Float[Tensor, "k pos n"] | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """Some tokens by some neurons under some conditions.

    functionals: vectors over the vocabulary whose products with u are wanted as well. Without a cap these products
    follow from d_model-sized ones, so only capped logits bring any.
    """

    base: Float[Tensor, "pos vocab"]
    bases: Float[Tensor, "b pos vocab"]
    rows: Float[Tensor, "n vocab"]
    conditions: tuple[Coefficients, ...]
    direction: Float[Tensor, " vocab"] | None = None
    cap: float | None = None
    shift: Float[Tensor, " pos"] | None = None
    functionals: Float[Tensor, "f pos vocab"] | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """One condition's reductions over the vocabulary, in the tile's dtype.

    log_partition: log sum exp(u); mean: the expectation of u under softmax(u); above: how many tokens exceed
    each threshold; products: functionals · u.
    """

    log_partition: Float[Tensor, "pos n"]
    mean: Float[Tensor, "pos n"]
    above: Int[Tensor, "k pos n"] | None = None
    products: Float[Tensor, "f pos n"] | None = None
