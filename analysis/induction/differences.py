"""Which last-layer neurons change when the text repeats (paper section 5, figure 11).

weighted activation difference = (mean over the second copy - mean over the first) ‖w_i‖
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from analysis.induction.sequences import Repeated
from analysis.readout import Readout


@dataclass(frozen=True, slots=True)
class Differences:
    """Means over rows and positions, float64. weighted: (second - first) ‖w_i‖."""

    first: Float[Tensor, " d_mlp"]
    second: Float[Tensor, " d_mlp"]
    weighted: Float[Tensor, " d_mlp"]


def differences(readout: Readout, activations: Float[Tensor, "row pos d_mlp"], repeated: Repeated) -> Differences:
    """First against second copy of every last-layer neuron."""
    return weighted(
        readout,
        activations[:, repeated.averaged(0)].double().mean((0, 1)),
        activations[:, repeated.averaged(1)].double().mean((0, 1)),
    )


def weighted(readout: Readout, first: Float[Tensor, " d_mlp"], second: Float[Tensor, " d_mlp"]) -> Differences:
    """Two means as a weighted difference; ‖w_i‖ is of the folded write directions."""
    return Differences(first, second, (second - first) * readout.W_out.double().norm(dim=1))
