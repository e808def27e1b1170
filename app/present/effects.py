"""Heat map, joint sets, doses and ledger as views."""

from collections.abc import Callable, Sequence

import torch

from analysis.effects import DoseResponse, Effects, Joint
from analysis.effects import Parts as PartArrays
from analysis.ledger import Component, Ledger
from analysis.model import Model
from analysis.types import NeuronId
from app.present.plain import number, series
from app.requests.effects import HeatSort
from app.views.core import Parts, Token
from app.views.effects import DoseRow, HeatRow, LedgerRow, SetEffect, SingleRow

METRICS = ("d_entropy", "d_loss", "d_kl_unigram")
PARTS = ("total", "direct", "ln_mediated", "ln_only", "frequency_mediated")


def heat_rows(values: torch.Tensor, neurons: Sequence[int], layer: int, sort: HeatSort, limit: int) -> list[HeatRow]:
    """The first rows of a (neuron, position) table; NaN cells (not computed, undefined) are null and count nowhere."""
    size = values.abs().nan_to_num(nan=-1.0).amax(1)
    columns = {
        "max_abs": size.masked_fill(size < 0, torch.nan),
        "mean_abs": values.abs().nanmean(1),
        "mean": values.nanmean(1),
    }
    if sort == "neuron":
        order = torch.arange(len(neurons))
    else:
        order = columns[sort].abs().nan_to_num(nan=-1.0).argsort(descending=True, stable=True)
    return [
        HeatRow(
            neuron=str(NeuronId(layer, neurons[index])),
            values=series(values[index]),
            **{name: number(column[index]) for name, column in columns.items()},
        )
        for index in order[:limit].tolist()
    ]


def joint(result: Joint, layer: int) -> dict[str, object]:
    """What a JointView needs of the numerics' result."""
    singles = result.singles
    together = _effect(result, lambda values: values[0])
    added = _effect(singles, lambda values: values.sum())
    return {
        "rows": [_single(singles, index, layer) for index in range(len(singles.neurons))],
        "joint": together,
        "sum": added,
        "interaction": _difference(together, added),
        "kl": result.kl,
        "ln_scale_after": result.ln_scale_after,
        "top1_changes": result.top1_changes,
        "d_reciprocal_rank": result.d_reciprocal_rank,
    }


def _single(singles: Effects, index: int, layer: int) -> SingleRow:
    return SingleRow(
        neuron=str(NeuronId(layer, int(singles.neurons[index]))),
        activation=float(singles.activation[index]),
        baseline=float(singles.baseline[index]),
        ln_scale_after=float(singles.ln_scale_after[index]),
        top1_changes=bool(singles.top1_changes[index]),
        **dict(_effect(singles, lambda values: values[index])),
    )


def _effect(source: object, read: Callable[[torch.Tensor], torch.Tensor]) -> SetEffect:
    return SetEffect(**{metric: _parts(getattr(source, metric), read) for metric in METRICS})


def _parts(parts: PartArrays | None, read: Callable[[torch.Tensor], torch.Tensor]) -> Parts:
    found = {name: None if parts is None else getattr(parts, name) for name in PARTS}
    return Parts(**{name: None if values is None else number(read(values)) for name, values in found.items()})


def _difference(a: SetEffect, b: SetEffect) -> SetEffect:
    def minus(one: Parts, other: Parts) -> Parts:
        pairs = {name: (getattr(one, name), getattr(other, name)) for name in PARTS}
        return Parts(**{name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()})

    return SetEffect(**{metric: minus(getattr(a, metric), getattr(b, metric)) for metric in METRICS})


def dose_rows(result: DoseResponse, model: Model, position: int) -> list[DoseRow]:
    texts = model.token_texts(result.top1.tolist())
    columns = {
        name: None if (values := getattr(result, name)) is None else series(values)
        for name in ("entropy", "loss", "ln_scale", "top1_prob", "frozen_entropy", "frozen_loss")
    }
    return [
        DoseRow(
            dose=float(dose),
            top1=Token(position=position + 1, id=int(result.top1[i]), text=texts[i]),
            **{name: None if values is None else values[i] for name, values in columns.items()},
        )
        for i, dose in enumerate(result.doses)
    ]


def ledger_rows(book: Ledger) -> list[LedgerRow]:
    assert book.null is not None
    return [
        _ledger_row(component, float(share), float(null))
        for component, share, null in zip(book.components, book.share, book.null, strict=True)
    ]


def _ledger_row(component: Component, share: float, null: float) -> LedgerRow:
    return LedgerRow(
        component=str(component),
        kind=component.kind,
        layer=component.layer,
        share=share,
        null=null,
        row=share - null,
    )


def ledger_neurons(book: Ledger, layer: int, limit: int) -> list[LedgerRow]:
    assert book.neuron_null is not None
    largest = book.neuron_share.abs().argsort(descending=True, stable=True)[:limit].tolist()
    rows = [(index, float(book.neuron_share[index]), float(book.neuron_null[index])) for index in largest]
    return [
        LedgerRow(
            component=str(NeuronId(layer, index)), kind="neuron", layer=layer, share=share, null=null, row=share - null
        )
        for index, share, null in rows
    ]
