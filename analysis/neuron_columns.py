"""The neuron table as aligned columns, for some layers and one dimension of the null space (METHODS section 2).

Beside what the weights say (`analysis.atlas`) stand what a sweep found of each neuron and the labels that follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.atlas import Atlas
from analysis.labels import Evidence, Label
from analysis.types import NeuronId

TABLE = ("norm", "norm_in", "cost", "cos_in_out", "logit_var", "v_score", "skew", "kurtosis", "frequency_alignment")
GATED = ("norm_gate", "cos_gate_in", "cos_gate_out")
EVIDENCE = tuple(field.name for field in fields(Evidence) if field.name != "intervals")
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class NeuronColumns:
    """Some layers of the table for one k: columns of len(layers) * d_mlp values (NaN where undefined), and each
    layer's labels."""

    layers: Sequence[int]
    d_mlp: int
    columns: Mapping[str, np.ndarray]
    labels: Sequence[Sequence[Label]]
    evidence: Mapping[str, Evidence]

    def __len__(self) -> int:
        return len(self.layers) * self.d_mlp

    @cached_property
    def names(self) -> list[str]:
        return [f"{layer}.{index}" for layer in self.layers for index in range(self.d_mlp)]

    def carriers(self, label: str) -> list[int]:
        """Indices of the neurons that carry a label, in order."""
        rules = (found for layer in self.labels for found in layer if found.name == label)
        return [
            place * self.d_mlp + index
            for place, rule in enumerate(rules)
            for index in rule.holds.nonzero()[:, 0].tolist()
        ]

    def below(self, index: int) -> dict[str, float | None]:
        """By column: share of the neurons whose value is known that have a smaller one; None where its own is not."""
        shares: dict[str, float | None] = {}
        for name, values in self.columns.items():
            if name not in ("neuron", "layer"):
                known = values[~np.isnan(values)]
                shares[name] = None if np.isnan(values[index]) else float((known < values[index]).mean())
        return shares


def neuron_columns(
    atlas: Atlas,
    layers: Sequence[int],
    rho: Float[Tensor, "layers d_mlp"],
    rho_share: Float[Tensor, "layers d_mlp"],
    labels: Sequence[Sequence[Label]],
    evidence: Mapping[str, Evidence],
) -> NeuronColumns:
    """The columns of these layers. rho_share: with k at 1 % of d_model. evidence: by the neuron's name."""
    table, d_mlp, which = atlas.table, atlas.table.d_mlp, list(layers)
    n = len(which) * d_mlp
    columns = {
        "neuron": np.arange(n),
        "layer": np.repeat(which, d_mlp),
        "rho": finite(rho),
        "rho_share": finite(rho_share),
        "norm_over_logit_var": finite(table.norm[which] / table.logit_var[which]),
    }
    for name in (*TABLE, *GATED):
        values = getattr(table, name)
        columns[name] = np.full(n, np.nan) if values is None else finite(values[which])
    return NeuronColumns(which, d_mlp, columns | _evidence_columns(which, d_mlp, evidence), labels, evidence)


def finite(values: Tensor) -> np.ndarray:
    """Flat float64, NaN in place of infinity."""
    flat = values.double().flatten().cpu().numpy()
    return np.where(np.isfinite(flat), flat, np.nan)


def _evidence_columns(layers: list[int], d_mlp: int, evidence: Mapping[str, Evidence]) -> dict[str, np.ndarray]:
    columns = {name: np.full(len(layers) * d_mlp, np.nan) for name in EVIDENCE}
    for key, found in evidence.items():
        neuron = NeuronId.parse(key)
        if neuron.layer in layers and neuron.index < d_mlp:
            at = layers.index(neuron.layer) * d_mlp + neuron.index
            for name, column in columns.items():
                value = getattr(found, name)
                column[at] = np.nan if value is None or not np.isfinite(value) else value
    return columns


def quantiles(values: Tensor) -> dict[str, float | None]:
    """QUANTILES of the values that are known, whatever their shape."""
    known = values.flatten()[~values.flatten().isnan()].double()
    if not len(known):
        return dict.fromkeys(QUANTILES)
    found = torch.quantile(known, torch.tensor(list(QUANTILES.values()), dtype=torch.float64))
    return dict(zip(QUANTILES, found.tolist(), strict=True))
