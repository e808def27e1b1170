"""One prompt without some attention heads: a `Trace` like any other, to lay beside the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from analysis.frequency import Unigram
from analysis.induction.head_ablation import HeadMode, head_hooks, head_means
from analysis.induction.heads import HeadId
from analysis.induction.measure import RowMetrics, measure
from analysis.induction.steps import complete
from analysis.model import Model
from analysis.trace import LastLayer, PositionMetrics, Trace
from analysis.types import InputError, NeuronId


def trace_without(
    model: Model,
    token_ids: Sequence[int],
    heads: Sequence[HeadId],
    *,
    mode: HeadMode = "bos",
    positions: Sequence[int] | None = None,
    neurons: Sequence[NeuronId] = (),
    unigram: Unigram | None = None,
) -> Trace:
    """The prompt with ``heads`` ablated at ``positions`` (None: all), in one forward pass.

    Mode "mean": each head writes its mean over this prompt. InputError for heads or positions that there are not.
    """
    tokens = model.tokens(token_ids)
    for position in positions or ():
        if not 0 <= position < len(token_ids):
            raise InputError(
                f"Position {position} is not in the text.",
                code="position_out_of_range",
                hint=f"Positions run from 0 to {len(token_ids) - 1}.",
            )
    layers = [head.check(model).layer for head in heads]
    means = complete(head_means(model, tokens, layers)) if mode == "mean" else None
    hooks = head_hooks(heads, mode, positions=positions, means=means)
    found = complete(measure(model, tokens, neurons=neurons, unigram=unigram, hooks=hooks))
    rows = {field.name: getattr(found.metrics, field.name) for field in fields(RowMetrics)}
    return Trace(
        tuple(token_ids),
        PositionMetrics(**{name: None if value is None else value[0] for name, value in rows.items()}),  # type: ignore[arg-type]
        LastLayer(found.resid[0], found.activations[0], None if found.mlp_out is None else found.mlp_out[0]),
        {neuron: values[0] for neuron, values in found.watched.items()},
    )
