"""Attention heads taken out: what a head writes at some positions is replaced (paper section 5, figure 5c).

BOS ablation of a head at query p: its attention row at p becomes 1 on key 0 and 0 elsewhere, at p only. Its output at p
is then the value of key 0, which is also what it writes at query 0, where nothing else can be seen. So one line does it
in every architecture: ``z[p] = z[0]``. (Editing the pattern itself is lost without an error in OPT.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.model import Hook, Model
from analysis.types import HeadId, HeadIntervention, InputError

HeadMeans = dict[int, Float[Tensor, "head d_head"]]
"""Mean output of every head of a layer, by layer."""


def check_head(model: Model, head: HeadId) -> HeadId:
    """Itself, or InputError when the model has no such head."""
    return head.check(n_layers=model.n_layers, n_heads=model.n_heads)


def head_hooks(
    interventions: Sequence[HeadIntervention],
    *,
    means: HeadMeans | None = None,
    queries: Int[Tensor, " row"] | None = None,
) -> list[Hook]:
    """One hook a layer that carries the interventions out on every row of the batch.

    means: needed by the mode "mean". queries: each row is changed at its own one alone, wherever the interventions are.
    """
    if means is None and any(item.mode == "mean" for item in interventions):
        raise InputError("Mean ablation of heads needs their means.")

    def hook(layer: int) -> Hook:
        here = [item for item in interventions if item.head.layer == layer]

        def ablate(z: Float[Tensor, "row pos head d_head"]) -> Float[Tensor, "row pos head d_head"]:
            new = z.clone()
            rows = torch.arange(len(z), device=z.device)[:, None]
            for item in here:
                at = torch.tensor(list(item.at(z.shape[1])))[None] if queries is None else queries[:, None]
                new[rows, at.to(z.device), item.head.head] = _instead(item, z, means)
            return new

        return _output(layer), ablate

    return [hook(layer) for layer in sorted({item.head.layer for item in interventions})]


def _instead(
    item: HeadIntervention, z: Float[Tensor, "row pos head d_head"], means: HeadMeans | None
) -> Float[Tensor, "row 1 d_head"]:
    """What the head writes instead, the same at each position."""
    bos = z[:, :1, item.head.head]
    if item.mode == "mean" and means is not None:
        return means[item.head.layer][item.head.head].to(z).expand_as(bos)
    return bos if item.mode == "bos" else torch.zeros_like(bos)


def mean_outputs(model: Model, tokens: Int[Tensor, "row pos"], layers: Iterable[int]) -> HeadMeans:
    """Mean output of each head over all positions of the rows, run clean, for the layers asked for; float64."""
    names = {layer: _output(layer) for layer in sorted(set(layers))}
    captured = model.run(tokens, capture=list(names.values()))
    return {layer: captured[name].double().mean((0, 1)) for layer, name in names.items()}


def _output(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z"
