"""One neuron on one text: ablated position by position, held at a value, and by the signs of its gate and input.

The first token is left out of means where it is BOS (METHODS section 5) or an attention sink (`analysis.sinks`):
attention makes it unlike the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis import sinks
from analysis.effects import Engine, baseline_values, next_tokens, stream
from analysis.model import Model
from analysis.trace import LastLayer, Trace, intervene
from analysis.types import Intervention, NeuronId


def entropy_changes(
    engine: Engine, last: LastLayer, token_ids: Sequence[int], index: int, *, mean: Float[Tensor, " d_mlp"] | None
) -> Float[Tensor, " pos"]:
    """H(P'_t) - H(P_t), nats, with last-layer neuron ``index`` ablated at t alone: to its mean, to zero without one."""
    baseline = baseline_values("zero" if mean is None else "mean", last.activations, mean)
    blocks = stream(engine, last, next_tokens(token_ids), baseline=baseline, neurons=[index], conditions=("total",))
    return torch.cat([block.outcomes["total"].d_entropy[:, 0] for block in blocks])


@dataclass(frozen=True, slots=True)
class TextMeans:
    """Means over a text, nats. loss, rank (0-based): of the tokens that follow; None where fewer than two do."""

    ln_scale: float
    entropy: float
    loss: float | None
    rank: float | None


def clamped(model: Model, run: Trace, neuron: NeuronId, value: float | None, *, keep_sinks: bool = False) -> TextMeans:
    """With the neuron's activation held at ``value`` at every position; None leaves the clean ``run`` as it is."""
    held = run if value is None else intervene(model, run, [Intervention(neuron, "value", value)])
    metrics, skip = held.metrics, sinks.skipped(model, run.token_ids, keep=keep_sinks)
    several = len(run) - skip > 1
    return TextMeans(
        ln_scale=float(metrics.ln_scale[skip:].mean()),
        entropy=float(metrics.entropy[skip:].mean()),
        loss=float(metrics.loss[skip:-1].mean()) if several else None,
        rank=float(metrics.rank[skip:-1].double().mean()) if several else None,
    )


@dataclass(frozen=True, slots=True)
class GateCase:
    """Positions at which gate and input are positive (or not): their share, and the mean activation there."""

    gate: bool
    input: bool
    share: float
    mean_activation: float | None


def gate_cases(
    model: Model, token_ids: Sequence[int], neuron: NeuronId, activation: Float[Tensor, " pos"]
) -> list[GateCase]:
    """The four sign cases of a gated MLP, activation = act(gate) * input."""
    names = [f"blocks.{neuron.layer}.mlp.{hook}" for hook in ("hook_pre", "hook_pre_linear")]
    captured = model.run(model.tokens(token_ids), capture=names)
    gate, linear = (captured[name][0, :, neuron.index] > 0 for name in names)
    cases = []
    for gate_sign in (True, False):
        for input_sign in (True, False):
            where = (gate == gate_sign) & (linear == input_sign)
            mean = float(activation[where].mean()) if bool(where.any()) else None
            cases.append(GateCase(gate_sign, input_sign, float(where.double().mean()), mean))
    return cases
