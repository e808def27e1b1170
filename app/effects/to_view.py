"""Heat map, joint sets, doses and ledger as views."""

import math
from collections.abc import Callable
from typing import Any

from analysis.components import Component
from analysis.effects import DoseResponse, Effects, Heatmap, Joint, row_sizes
from analysis.effects import Parts as PartArrays
from analysis.grammar import printed
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


UNIFORM_FROM = 0.25
"""Nats: an end that is less than that below a uniform guess has hardly any certainty to place."""
NEAR = 0.5
"""Of the KL between the end and a uniform guess: a reading that is nearer than that to the end says something of it."""
TOLD = 0.005
"""Nats: a smaller step would be told as 0.00."""


def lens_sentence(view: LensView, d_vocab: int) -> str:
    """From where along the depth the readings speak of the end, which block then adds most certainty, and which takes
    most of it back: by means over the tokens but the first, which is read by itself or as a sink.

    Readings further from the end than half of a uniform guess, or followed by such a one, are left out. However sure
    they are, they are sure of something else: where the embedding is tied, the first ones of the token that was read.
    """
    if view.of == "block":
        return "What each block wrote is read out alone: this says what it would predict, not how sure the stream is."
    names = [layer.name for layer in view.layers]
    entropy, kl = (_over_tokens(view, name) for name in ("entropy", "kl_final"))
    known = math.log(d_vocab) - entropy[-1]  # mean KL of the end to a uniform guess
    if known < UNIFORM_FROM:
        return (
            f"At the end {entropy[-1]:.2f} nats on average over the tokens, {known:.2f} below a uniform guess: "
            "hardly any certainty to place."
        )
    far = [i for i, value in enumerate(kl[:-1]) if value >= NEAR * known]
    start = far[-1] + 1 if far else 0
    text = (
        f"At the end {entropy[-1]:.2f} nats on average over the tokens. Half of them keep the end's top token from "
        f"{names[_settled(view)]} on. "
    )
    bound = f"{NEAR * known:.2f} nats of it (KL; a uniform guess: {known:.2f})"
    if start == len(names) - 1:
        return f"{text}No reading before the end is within {bound}: certainty appears with {names[-1]}."
    surest = min(range(start, len(names)), key=entropy.__getitem__)
    steps = {i: entropy[i] - entropy[i - 1] for i in range(start + 1, len(names))}
    fall, rise = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    falls, rises = (printed(steps[block], "+.2f") for block in (fall, rise))
    adds = f"{names[fall]} adds most certainty ({falls})" if steps[fall] < -TOLD else "no block adds certainty"
    back = f"{names[rise]} takes most back ({rises})" if steps[rise] > TOLD else "none takes any back"
    least = "" if surest == start else f" at its smallest {entropy[surest]:.2f} behind {names[surest]},"
    return (
        f"{text}From {names[start]} on the readings are within {bound}. Their entropy is {entropy[start]:.2f} there,"
        f"{least or ' at its smallest,'} and {entropy[-1]:.2f} at the end: {adds}, {back}."
    )


def _over_tokens(view: LensView, name: str) -> list[float]:
    """The mean of each reading, without the first token where there are others."""
    rows = [getattr(layer, name)[len(view.tokens) > 1 :] for layer in view.layers]
    return [sum(value or 0.0 for value in row) / len(row) for row in rows]


def _settled(view: LensView) -> int:
    """The first reading from which on half of the tokens have the end's top token at every reading."""
    last = len(view.layers) - 1
    tops = [[top[0].id for top in layer.top] for layer in view.layers]
    since = []
    for token in range(len(view.tokens) > 1, len(view.tokens)):
        others = [i for i in range(last) if tops[i][token] != tops[last][token]]
        since.append(others[-1] + 1 if others else 0)
    return sorted(since)[(len(since) - 1) // 2]


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
