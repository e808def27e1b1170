"""Interventions and token filters on tensors; their values are plain data (`analysis.types`), known without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.types import Intervention, TokenFilter, reference_not_ready


def intervened(intervention: Intervention, activation: Tensor, mean: float | None) -> Tensor:
    """The new activations at the touched positions (any shape). mean: for the mode "mean"; NotReadyError without."""
    match intervention.mode:
        case "mean":
            if mean is None:
                raise reference_not_ready()
            return torch.full_like(activation, mean)
        case "zero":
            return torch.zeros_like(activation)
        case "value":
            return torch.full_like(activation, float(intervention.value or 0.0))
        case "scale":
            return activation * float(intervention.value or 0.0)
        case "clip":
            return activation.clamp(intervention.min, intervention.max)


def edited(
    activations: Float[Tensor, "batch pos d_mlp"],
    placed: Iterable[tuple[Intervention, Sequence[int]]],
    means: Float[Tensor, "n_layers d_mlp"] | None,
) -> Float[Tensor, "batch pos d_mlp"]:
    """A new tensor with interventions of one layer carried out, each at its places. NotReadyError as `intervened`."""
    new = activations.clone()
    for intervention, places in placed:
        neuron, where = intervention.neuron, torch.tensor(list(places), dtype=torch.long, device=activations.device)
        mean = None if means is None else float(means[neuron.layer, neuron.index])
        new[:, where, neuron.index] = intervened(intervention, activations[:, where, neuron.index], mean)
    return new


def kept_mask(
    token_filter: TokenFilter, tokens: Int[Tensor, "batch pos"], excluded: Collection[int]
) -> Bool[Tensor, "batch pos"]:
    """True at positions that count. The last position is never kept: nothing follows it."""
    length = tokens.shape[1]
    keep = torch.zeros_like(tokens, dtype=torch.bool)
    keep[:, token_filter.first : max(length - max(token_filter.last, 1), 0)] = True
    if token_filter.exclude_specials and excluded:
        special = torch.isin(tokens, torch.tensor(sorted(excluded), device=tokens.device, dtype=tokens.dtype))
        keep &= ~special
        keep[:, :-1] &= ~special[:, 1:]
    return keep
