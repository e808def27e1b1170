"""Clipped ablation: what a neuron does on the repeat is taken back (paper section 5, figures 5b and 10).

With m the neuron's mean over the first copy, pooled over rows: a neuron that rises on the repeat is kept at or below m,
one that falls at or above it, at every position. Last-layer neurons, so the residual stream changes in closed form:
H_post is the entropy with the LN scale following, its twin the one with the scale frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.apply import intervened
from analysis.controls import N_CONTROLS, matched
from analysis.frequency import Unigram
from analysis.induction.curves import Curve, curve
from analysis.induction.differences import Differences, differences
from analysis.induction.measure import Measured, RowMetrics, row_metrics
from analysis.induction.sequences import Repeated
from analysis.model import Model
from analysis.progress import Progress, Steps
from analysis.readout import Readout
from analysis.types import InputError, Intervention, NeuronId


@dataclass(frozen=True, slots=True)
class Clipped:
    """Clipping one set of last-layer neurons.

    rules: the clip of each neuron. clean, total, frozen: metrics (row, pos) without it, with it, and with it at the
    clean LN scale.
    """

    rules: tuple[Intervention, ...]
    clean: RowMetrics
    total: RowMetrics
    frozen: RowMetrics

    def ratio(self, *, frozen: bool = False) -> Curve:
        """H_post / H by position."""
        return curve((self.frozen if frozen else self.total).entropy / self.clean.entropy)

    def loss_change(self, *, frozen: bool = False) -> Curve:
        return curve((self.frozen if frozen else self.total).loss - self.clean.loss)


@dataclass(frozen=True, slots=True)
class Control:
    """The set's clips, written along random directions. norms: of these. ratio, loss_change: means over rows at the
    repeat's positions."""

    norms: tuple[float, ...]
    ratio: Float[Tensor, " repeat"]
    loss_change: Float[Tensor, " repeat"]


def clip_rule(neuron: NeuronId, found: Differences) -> Intervention:
    """``max`` = m for a neuron that rises on the repeat, ``min`` = m for one that falls."""
    m = float(found.first[neuron.index])
    rises = bool(found.second[neuron.index] > found.first[neuron.index])
    return Intervention(neuron, "clip", max=m) if rises else Intervention(neuron, "clip", min=m)


def clipped_activations(
    activations: Float[Tensor, "row pos d_mlp"], rules: Sequence[Intervention]
) -> Float[Tensor, "row pos n"]:
    """The new activations of the clipped neurons, in the order of the rules."""
    return torch.stack([intervened(rule, activations[:, :, rule.neuron.index], None) for rule in rules], dim=-1)


def moved_resid(
    readout: Readout,
    measured: Measured,
    rules: Sequence[Intervention],
    positions: Sequence[int] | None = None,
    *,
    rows: Float[Tensor, "n d_model"] | None = None,
) -> Float[Tensor, "row pos d_model"]:
    """The last residual stream after clipping, at all positions or at some; with ``rows`` what the neurons write is
    written along these instead."""
    where = slice(None) if positions is None else list(positions)
    indices = [rule.neuron.index for rule in rules]
    activations = measured.activations[:, where]
    delta = (clipped_activations(activations, rules) - activations[:, :, indices]).flatten(0, 1)
    resid = measured.resid[:, where]
    mlp_out = None if measured.mlp_out is None else measured.mlp_out[:, where].flatten(0, 1)
    written = readout.W_out[indices] if rows is None else rows
    return readout.write(resid.flatten(0, 1), mlp_out, delta, written).view(resid.shape)


def clip(
    model: Model,
    measured: Measured,
    repeated: Repeated,
    neurons: Sequence[NeuronId],
    *,
    unigram: Unigram | None = None,
    readout: Readout | None = None,
) -> Clipped:
    """Clip a set of last-layer neurons together; InputError for another layer."""
    readout = readout or model.readout
    check_last_layer(model, neurons)
    found = differences(readout, measured.activations, repeated)
    rules = tuple(clip_rule(neuron, found) for neuron in neurons)
    resid = moved_resid(readout, measured, rules)
    return Clipped(
        rules,
        measured.metrics,
        row_metrics(readout, resid, measured.tokens, unigram),
        row_metrics(readout, resid, measured.tokens, unigram, scale=measured.metrics.ln_scale),
    )


def controls(
    model: Model,
    measured: Measured,
    repeated: Repeated,
    neurons: Sequence[NeuronId],
    *,
    n_controls: int = N_CONTROLS,
    seed: int = 0,
) -> Steps[list[Control]]:
    """The same clips along random directions of the same norms, measured on the repeats alone; one set a step."""
    readout = model.readout
    found = differences(readout, measured.activations, repeated)
    rules = [clip_rule(neuron, found) for neuron in neurons]
    where = repeated.repeats
    next_tokens = measured.tokens.roll(-1, dims=1)[:, where]
    result = []
    sets = matched(readout, [neuron.index for neuron in neurons], n_sets=n_controls, seed=seed)
    for done, rows in enumerate(sets, start=1):
        resid = moved_resid(readout, measured, rules, where, rows=rows)
        entropy, loss = _entropy_and_loss(readout, resid, next_tokens)
        result.append(
            Control(
                tuple(rows.double().norm(dim=1).tolist()),
                (entropy / measured.metrics.entropy[:, where]).double().mean(0),
                (loss - measured.metrics.loss[:, where]).double().mean(0),
            )
        )
        yield Progress("random controls", done, n_controls)
    return result


def _entropy_and_loss(
    readout: Readout, resid: Float[Tensor, "row pos d_model"], next_tokens: Int[Tensor, "row pos"]
) -> tuple[Float[Tensor, "row pos"], Float[Tensor, "row pos"]]:
    """At chosen positions, whose next tokens are given."""
    # row_metrics reads the next token off the row itself: put the token in front that nothing predicts.
    shifted = torch.cat([next_tokens[:, :1], next_tokens], dim=1)
    padded = torch.cat([resid, resid[:, :1]], dim=1)
    found = row_metrics(readout, padded, shifted)
    return found.entropy[:, :-1], found.loss[:, :-1]


def check_last_layer(model: Model, neurons: Sequence[NeuronId]) -> None:
    """InputError unless there is at least one neuron and all are in the last layer, each once."""
    if not neurons:
        raise InputError("No neuron is chosen.", code="no_neurons", hint="Name one, such as the first of the ranking.")
    if len(set(neurons)) < len(neurons):
        raise InputError("A neuron is named twice.", code="duplicate_neuron", hint="Name each neuron once.")
    for neuron in neurons:
        if model.check_neuron(neuron).layer != model.last_layer:
            raise InputError(
                f"Neuron {neuron} is not in the last layer.",
                code="not_last_layer",
                hint=f"Clipping is exact for layer {model.last_layer}; elsewhere use interventions in the prompt lab.",
            )
