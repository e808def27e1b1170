"""Rows of the neuron table, labels and their conditions as views; where what follows from the weights comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.atlas import Atlas, code_version
from analysis.labels import Evidence, Label
from analysis.neuron_columns import GATED, TABLE, NeuronColumns
from analysis.nullspace import Chance
from app.core.evidence import Findings, StoredSweep, baseline_text
from app.core.plain import number
from app.core.residency.atlas_context import OfModel
from app.core.residency.resident import Resident
from app.core.to_view import origin
from app.core.weights_view import (
    EVIDENCE,
    ChanceView,
    ConditionView,
    EffectToken,
    EvidenceSource,
    LabelView,
    NeuronRow,
    Source,
    SpeakingSweep,
    SweepEvidence,
)


def number_or_none(value: float | None) -> float | None:
    return None if value is None else number(value)


def row(model: OfModel, atlas: Atlas, shown: NeuronColumns, index: int) -> NeuronRow:
    place, neuron = divmod(index, shown.d_mlp)
    layer, name = shown.layers[place], shown.names[index]
    names = ("norm_over_logit_var", "rho", "rho_share", *TABLE, *GATED)
    columns = {key: number(shown.columns[key][index]) for key in names}
    table = atlas.table
    return NeuronRow(
        neuron=name,
        layer=layer,
        raised=effect_tokens(model, table.raised[layer, neuron].tolist(), table.raised_by[layer, neuron].tolist()),
        lowered=effect_tokens(model, table.lowered[layer, neuron].tolist(), table.lowered_by[layer, neuron].tolist()),
        labels=[label_view(label, neuron) for label in shown.labels[place]],
        sweep=evidence_view(shown.evidence.get(name)),
        **columns,
    )


def effect_tokens(model: OfModel, ids: Sequence[int], values: Sequence[float]) -> list[EffectToken]:
    pairs = zip(ids, model.token_texts(ids), values, strict=True)
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
    return LabelView(
        name=label.name,
        holds=bool(label.holds[index]),
        suggested=bool(label.suggested[index]),
        basis=label.basis(index),
        conditions=conditions,
    )


def evidence_view(evidence: Evidence | None) -> SweepEvidence | None:
    if evidence is None:
        return None
    values = {name: number_or_none(getattr(evidence, name)) for name in EVIDENCE}
    return SweepEvidence(**values, intervals=dict(evidence.intervals))


def evidence_source(findings: Findings) -> EvidenceSource:
    """Which sweep the labels and the causal columns rest on, and which others could be chosen."""

    def view(sweep: StoredSweep) -> SpeakingSweep:
        return SpeakingSweep(
            id=sweep.id,
            name=sweep.name,
            source=sweep.source,
            rows=sweep.rows,
            tokens=sweep.tokens,
            neurons=sweep.neurons,
            baseline=sweep.baseline,
            baseline_text=baseline_text(sweep.baseline),
            dtype=sweep.dtype,
            fits=sweep.id in findings.fitting,
        )

    return EvidenceSource(
        sweep=None if findings.sweep is None else view(findings.sweep),
        chosen=findings.chosen,
        choices=[view(each) for each in findings.choices],
    )


def resting_on(findings: Findings) -> str:
    """What labels rest on, in words."""
    sweep = findings.sweep
    if sweep is None:
        return "the weights only"
    return f"the weights and a sweep: {sweep.name} ({sweep.rows} rows)"


def chance_view(chance: Chance) -> ChanceView:
    return ChanceView(rms=chance.rms, maximum=chance.maximum, low=chance.low, high=chance.high, draws=chance.n)


def source(resident: Resident, *, k: int | None = None) -> Source:
    return source_of(origin(resident), k=k)


def source_of(found: Mapping[str, Any], *, k: int | None = None) -> Source:
    """found: as `origin` gives it."""
    return Source(**found, k=k, code_version=code_version())
