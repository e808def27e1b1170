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
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects.clean import exact
from analysis.model import Model
from analysis.types import InputError

Kind = Literal["embedding", "head", "mlp", "biases"]


@dataclass(frozen=True, slots=True)
class Component:
    """Something that writes to the residual stream; ``index`` is the head's."""

    kind: Kind
    layer: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        match self.kind:
            case "head":
                return f"L{self.layer}H{self.index}"
            case "mlp":
                return f"MLP {self.layer}"
            case _:
                return self.kind


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


@torch.inference_mode()
def ledger(
    model: Model,
    token_ids: Sequence[int],
    position: int,
    *,
    null_basis: Float[Tensor, "d_model k"] | None = None,
) -> Ledger:
    """One forward pass with every component captured, split at ``position``."""
    if not 0 <= position < len(token_ids):
        raise InputError(
            f"Position {position} is not in the text.",
            code="position_out_of_range",
            hint=f"Positions run from 0 to {len(token_ids) - 1}.",
        )
    last = f"blocks.{model.last_layer}"
    captured = model.run(model.tokens(token_ids), capture=_names(model))
    at = {name: exact(value[0, position]) for name, value in captured.items()}
    components, writes = _writes(model, at)
    readout = model.readout
    resid = at[f"{last}.hook_resid_post"]
    xc, d = readout.centre(resid), model.d_model
    neurons = at[f"{last}.mlp.hook_post"][:, None] * exact(model.write_rows(model.last_layer))
    if readout.post_norm is not None:
        neurons = neurons / readout.post_norm.scale(at[f"{last}.mlp.hook_out"])
    inside = None if null_basis is None else exact(null_basis) @ (exact(null_basis).T @ xc)
    centred = readout.centre(writes)
    share = centred @ xc / d
    scale = float(readout.scale(resid))
    return Ledger(
        components=tuple(components),
        share=share,
        null=None if inside is None else centred @ inside / d,
        neuron_share=neurons @ xc / d,
        neuron_null=None if inside is None else neurons @ inside / d,
        scale=scale,
        eps=readout.eps,
        remainder=float(xc.square().mean() - share.sum()),
    )


def _names(model: Model) -> list[str]:
    last = f"blocks.{model.last_layer}"
    names = ["blocks.0.hook_resid_pre", f"{last}.hook_resid_post", f"{last}.mlp.hook_post", f"{last}.mlp.hook_out"]
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        names += [f"{block}.attn.hook_z", f"{block}.attn.hook_out", f"{block}.hook_attn_out", f"{block}.hook_mlp_out"]
    return list(dict.fromkeys(names))


def _writes(model: Model, at: dict[str, Tensor]) -> tuple[list[Component], Float[Tensor, "component d_model"]]:
    """Every component and what it wrote; biases last."""
    components, writes = [Component("embedding")], [at["blocks.0.hook_resid_pre"]]
    biases = torch.zeros_like(writes[0])
    for layer in range(model.n_layers):
        attention = at[f"blocks.{layer}.hook_attn_out"]
        heads = _heads(model, layer, at)
        biases = biases + attention - heads.sum(0)
        components += [Component("head", layer, index) for index in range(len(heads))]
        writes += list(heads)
        mlp, bias = at[f"blocks.{layer}.hook_mlp_out"], _mlp_bias(model, layer, at)
        biases = biases + bias
        components.append(Component("mlp", layer))
        writes.append(mlp - bias)
    return [*components, Component("biases")], torch.stack([*writes, biases])


def _heads(model: Model, layer: int, at: dict[str, Tensor]) -> Float[Tensor, "head d_model"]:
    """What each head wrote, through the norm behind the attention where there is one; the output bias left out."""
    z = at[f"blocks.{layer}.attn.hook_z"].view(model.n_heads, -1)
    heads = torch.einsum("hd,hdm->hm", z, exact(model.W_O(layer)))
    gain = model.post_attention_gain(layer)
    return heads if gain is None else heads * exact(gain) / _rms(at[f"blocks.{layer}.attn.hook_out"], model)


def _mlp_bias(model: Model, layer: int, at: dict[str, Tensor]) -> Float[Tensor, " d_model"]:
    """The MLP's output bias. Post-norm models have none."""
    bias = model.mlp_bias(layer, "b_out")
    return torch.zeros_like(at[f"blocks.{layer}.hook_mlp_out"]) if bias is None else exact(bias)


def _rms(x: Float[Tensor, " d_model"], model: Model) -> Float[Tensor, ""]:
    post_norm = model.readout.post_norm
    assert post_norm is not None
    return post_norm.scale(x)
