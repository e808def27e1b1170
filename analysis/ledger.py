"""The LN ledger: what the final LN scale at one token is made of, exactly (METHODS section 3).

    s² = sum_j share_j + eps,    share_j = c_j·xc / d

over everything that was written to the residual stream: the embedding, every attention head, every MLP, and all biases
together. With a basis V0 of the effective null space of ``W_U`` each share splits once more,

    share_j = c_j·(V0 V0ᵀ xc)/d + c_j·(xc - V0 V0ᵀ xc)/d,

into what only the norm sees and what the logits see too. A share can be negative: a component that points against xc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis import components
from analysis.components import Component
from analysis.effects.clean import exact
from analysis.model import Model
from analysis.types import check_position


@dataclass(frozen=True, slots=True)
class Ledger:
    """share, null: one number a component, float64; null is None without a null-space basis.

    scale: s. remainder: s² - eps - sum of the shares, which is rounding. neuron_share, neuron_null: the last MLP's row
    split further, one number a neuron (its bias is among the biases).
    """

    components: tuple[Component, ...]
    share: Float[Tensor, " component"]
    null: Float[Tensor, " component"] | None
    neuron_share: Float[Tensor, " d_mlp"]
    neuron_null: Float[Tensor, " d_mlp"] | None
    scale: float
    eps: float
    remainder: float

    @property
    def null_total(self) -> float | None:
        """The part of s² that lies in the effective null space: ‖V0ᵀ xc‖²/d."""
        return None if self.null is None else float(self.null.sum())


def held_bytes(model: Model, n_tokens: int) -> int:
    """What `ledger` keeps of its pass: the captured writes, and at the token every component and neuron in float64."""
    written = 4 * 4 * model.n_layers * n_tokens * model.d_model
    return written + 8 * 3 * (model.d_mlp + (model.n_heads + 3) * model.n_layers) * model.d_model


@torch.inference_mode()
def ledger(
    model: Model,
    token_ids: Sequence[int],
    position: int,
    *,
    null_basis: Float[Tensor, "d_model k"] | None = None,
) -> Ledger:
    """One forward pass with every component captured, split at ``position``."""
    check_position(position, len(token_ids))
    last = f"blocks.{model.last_layer}.hook_resid_post"
    captured = model.run(model.tokens(token_ids), capture=[*components.names(model), last])
    at = components.terms(model, {name: value[0, position] for name, value in captured.items()})
    readout = model.readout
    resid = exact(captured[last][0, position])
    xc, d = readout.centre(resid), model.d_model
    neurons = at["neurons"][:, None] * exact(model.write_rows(model.last_layer))
    inside = None if null_basis is None else exact(null_basis) @ (exact(null_basis).T @ xc)
    centred = readout.centre(components.writes(model, at, positions=False))
    share = centred @ xc / d
    scale = float(readout.scale(resid))
    return Ledger(
        components=components.components(model, positions=False),
        share=share,
        null=None if inside is None else centred @ inside / d,
        neuron_share=neurons @ xc / d,
        neuron_null=None if inside is None else neurons @ inside / d,
        scale=scale,
        eps=readout.eps,
        remainder=float(xc.square().mean() - share.sum()),
    )
