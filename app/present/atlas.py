"""Columns of the neuron table, rows, points, quantiles: the numbers of the atlas as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from analysis.atlas import Atlas, code_version
from analysis.labels import Evidence, Label
from analysis.model import Model
from analysis.nullspace import Chance
from analysis.types import NeuronId
from app.present.core import origin
from app.present.plain import number
from app.residency.resident import Resident
from app.views.atlas import (
    EVIDENCE,
    ChanceView,
    ConditionView,
    EffectToken,
    LabelView,
    NeuronRow,
    Source,
    SweepEvidence,
)

TABLE = ("norm", "norm_in", "cost", "cos_in_out", "logit_var", "skew", "kurtosis", "frequency_alignment")
GATED = ("norm_gate", "cos_gate_in", "cos_gate_out")
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Neurons:
    """Some layers of the table for one k: aligned columns (NaN where undefined), and each layer's labels."""

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


def neurons(
    atlas: Atlas,
    layers: Sequence[int],
    rho: Tensor,
    labels: Sequence[Sequence[Label]],
    evidence: Mapping[str, Evidence],
) -> Neurons:
    """rho: (len(layers), d_mlp)."""
    table, d_mlp, which = atlas.table, atlas.table.d_mlp, list(layers)
    n = len(which) * d_mlp
    columns = {
        "neuron": np.arange(n),
        "layer": np.repeat(which, d_mlp),
        "rho": finite(rho),
        "norm_over_logit_var": finite(table.norm[which] / table.logit_var[which]),
    }
    for name in (*TABLE, *GATED):
        values = getattr(table, name)
        columns[name] = np.full(n, np.nan) if values is None else finite(values[which])
    return Neurons(which, d_mlp, columns | _evidence_columns(which, d_mlp, evidence), labels, evidence)


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
                value = number_or_none(getattr(found, name))
                column[at] = np.nan if value is None else value
    return columns


def number_or_none(value: float | None) -> float | None:
    return None if value is None else number(value)


def row(model: Model, atlas: Atlas, shown: Neurons, index: int) -> NeuronRow:
    place, neuron = divmod(index, shown.d_mlp)
    layer, name = shown.layers[place], shown.names[index]
    columns = {key: number(shown.columns[key][index]) for key in ("norm_over_logit_var", "rho", *TABLE, *GATED)}
    table = atlas.table
    return NeuronRow(
        neuron=name,
        layer=layer,
        raised=effect_tokens(model, table.raised[layer, neuron], table.raised_by[layer, neuron]),
        lowered=effect_tokens(model, table.lowered[layer, neuron], table.lowered_by[layer, neuron]),
        labels=[label_view(label, neuron) for label in shown.labels[place]],
        sweep=evidence_view(shown.evidence.get(name)),
        **columns,
    )


def effect_tokens(model: Model, ids: Tensor, values: Tensor) -> list[EffectToken]:
    pairs = zip(ids.tolist(), model.token_texts(ids.tolist()), values.tolist(), strict=True)
    return [EffectToken(id=index, text=text, effect=number(value)) for index, text, value in pairs]


def label_view(label: Label, index: int) -> LabelView:
    conditions = [
        ConditionView(
            name=condition.name,
            text=condition.text,
            value=number(condition.values[index]),
            threshold=number(condition.threshold),
            holds=bool(condition.holds[index]) if bool(condition.known[index]) else None,
            required=condition.required,
        )
        for condition in label.conditions
    ]
    return LabelView(name=label.name, holds=bool(label.holds[index]), basis=label.basis(index), conditions=conditions)


def evidence_view(evidence: Evidence | None) -> SweepEvidence | None:
    if evidence is None:
        return None
    values = {name: number_or_none(getattr(evidence, name)) for name in EVIDENCE}
    return SweepEvidence(**values, intervals=dict(evidence.intervals))


def chance_view(chance: Chance) -> ChanceView:
    return ChanceView(rms=chance.rms, maximum=chance.maximum, low=chance.low, high=chance.high, draws=chance.n)


def quantiles(values: Tensor) -> dict[str, float | None]:
    """Of the known values."""
    known = values.flatten()[~values.flatten().isnan()].double()
    if not len(known):
        return dict.fromkeys(QUANTILES)
    found = torch.quantile(known, torch.tensor(list(QUANTILES.values()), dtype=torch.float64))
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def source(resident: Resident, *, k: int | None = None) -> Source:
    return Source(**origin(resident), k=k, code_version=code_version())
