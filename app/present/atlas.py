"""Columns of the neuron table, rows, points, quantiles: the numbers of the atlas as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis.atlas import Atlas, code_version
from analysis.labels import Evidence, Label
from analysis.model import Model
from analysis.nullspace import Chance
from app.present.core import folding, versions
from app.present.plain import number, series
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
    """Some layers of the table for one k: aligned columns, and each layer's labels."""

    layers: Sequence[int]
    d_mlp: int
    columns: Mapping[str, Sequence[Any]]
    labels: Sequence[Sequence[Label]]

    def name(self, index: int) -> str:
        layer, neuron = divmod(index, self.d_mlp)
        return f"{self.layers[layer]}.{neuron}"

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
    table, d_mlp = atlas.table, atlas.table.d_mlp
    which = list(layers)
    n = len(which) * d_mlp
    columns: dict[str, Sequence[Any]] = {
        "neuron": range(n),
        "layer": [layer for layer in which for _ in range(d_mlp)],
        "rho": series(rho.flatten()),
        "norm_over_logit_var": series((table.norm[which] / table.logit_var[which]).flatten()),
    }
    for name in (*TABLE, *GATED):
        values = getattr(table, name)
        columns[name] = [None] * n if values is None else series(values[which].flatten())
    for name in EVIDENCE:
        columns[name] = [None] * n
        if evidence:
            found = (evidence.get(f"{layer}.{index}") for layer in which for index in range(d_mlp))
            columns[name] = [None if item is None else number_or_none(getattr(item, name)) for item in found]
    return Neurons(which, d_mlp, columns, labels)


def number_or_none(value: float | None) -> float | None:
    return None if value is None else number(value)


def row(model: Model, atlas: Atlas, shown: Neurons, index: int, evidence: Mapping[str, Evidence]) -> NeuronRow:
    place, neuron = divmod(index, shown.d_mlp)
    layer, name = shown.layers[place], shown.name(index)
    columns = {key: shown.columns[key][index] for key in ("norm_over_logit_var", "rho", *TABLE, *GATED)}
    table = atlas.table
    return NeuronRow(
        neuron=name,
        layer=layer,
        raised=effect_tokens(model, table.raised[layer, neuron], table.raised_by[layer, neuron]),
        lowered=effect_tokens(model, table.lowered[layer, neuron], table.lowered_by[layer, neuron]),
        labels=[label_view(label, neuron) for label in shown.labels[place]],
        sweep=evidence_view(evidence.get(name)),
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
    model = resident.model
    return Source(
        model=model.key,
        source=model.spec.hub or "local folder",
        revision=resident.revision,
        weights_sha256=model.weights_sha256,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        versions=versions(),
        unigram=resident.unigram.source if resident.unigram else None,
        folding=folding(model),
        k=k,
        code_version=code_version(),
    )
