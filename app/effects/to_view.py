"""Heat map, joint sets, doses and ledger as views."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from analysis.components import Component
from analysis.effects import DoseResponse, Effects, Heatmap, Joint, row_sizes
from analysis.effects import Parts as PartArrays
from analysis.ledger import Ledger
from analysis.lens import LensLayer
from analysis.model import Model
from analysis.types import NeuronId
from app.core.plain import number, series
from app.core.to_view import next_tokens
from app.core.view import Parts, Token
from app.effects.request import HeatSort
from app.effects.view import DoseRow, HeatRow, LedgerRow, LensLayerView, LensView, SetEffect, SingleRow

METRICS = ("d_entropy", "d_loss", "d_kl_unigram")
PARTS = ("total", "direct", "mlp_norm", "ln_mediated", "ln_only", "frequency_mediated")


def heat_rows(heatmap: Heatmap, layer: int, sort: HeatSort, limit: int) -> list[HeatRow]:
    """The first rows; cells that are not computed yet, or undefined, are null and count nowhere."""
    sizes = row_sizes(heatmap.values)
    return [
        HeatRow(
            neuron=str(NeuronId(layer, heatmap.neurons[index])),
            values=series(heatmap.values[index]),
            max_abs=number(sizes.max_abs[index]),
            mean_abs=number(sizes.mean_abs[index]),
            mean=number(sizes.mean[index]),
        )
        for index in sizes.order(sort)[:limit]
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


def _effect(source: object, read: Callable[[Any], Any]) -> SetEffect:
    return SetEffect(**{metric: _parts(getattr(source, metric), read) for metric in METRICS})


def _parts(parts: PartArrays | None, read: Callable[[Any], Any]) -> Parts:
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


def lens_layer(model: Model, layer: LensLayer) -> LensLayerView:
    pairs = zip(layer.top_ids.tolist(), layer.top_log_probs.tolist(), strict=True)
    return LensLayerView(
        name=layer.name,
        entropy=series(layer.entropy),
        loss=series(layer.loss),
        kl_final=series(layer.kl_final),
        ln_scale=series(layer.ln_scale),
        top=[next_tokens(model, ids, log_probs) for ids, log_probs in pairs],
    )


def lens_sentence(view: LensView) -> str:
    """Where certainty appears and what takes it back, from the means over the tokens but the first, which is read by
    itself or as a sink."""
    if view.of == "block":
        return "What each block wrote is read out alone: this says what it would predict, not how sure the stream is."
    names = [layer.name for layer in view.layers]
    first = 1 if len(view.tokens) > 1 else 0
    means = [sum(value or 0.0 for value in layer.entropy[first:]) / len(view.tokens[first:]) for layer in view.layers]
    steps = [after - before for before, after in pairwise(means)]
    surest = min(range(len(means)), key=means.__getitem__)
    fall = min(range(len(steps)), key=steps.__getitem__)
    text = (
        f"Read out behind the embedding, {means[0]:.2f} nats on average over the tokens; at the end {means[-1]:.2f}. "
        f"The largest single fall is {steps[fall]:+.2f} at {names[fall + 1]}. It is surest behind {names[surest]}, "
        f"{means[surest]:.2f}"
    )
    if surest == len(means) - 1:
        return f"{text}: nothing takes certainty back."
    back = max(range(surest, len(steps)), key=steps.__getitem__)
    return (
        f"{text}; what follows takes {means[-1] - means[surest]:.2f} of that back, most of it {names[back + 1]} "
        f"({steps[back]:+.2f})."
    )


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
