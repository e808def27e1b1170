"""The effects of a set's controls at the tokens that a sweep has drawn, in closed form: no forward pass.

For each neuron of the set `analysis.controls.matched` gives directions of its norm; at every drawn token of the half to
show each takes the neuron's own change of activation, baseline - n(t). What follows is measured as the sweep measures
neurons (`analysis.effects`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from analysis.controls import N_CONTROLS, Standing, matched, standing
from analysis.effects import Engine
from analysis.effects.stream import stream
from analysis.sets import Path
from analysis.sweep import Result
from analysis.trace import LastLayer

TOKENS = 96
"""Drawn tokens that controls are measured at, at most."""


@dataclass(frozen=True, slots=True)
class ControlEffects:
    """|Δ loss| of a set and its controls at the same tokens, nats. norms: of the set's neurons, which are those of
    their controls. own: (2, n, token); others: (2, control, n, token): total, and with the path frozen."""

    norms: tuple[float, ...]
    own: Float[ndarray, "2 n token"]
    others: Float[ndarray, "2 control n token"]

    def standing(self, place: int) -> Standing:
        """Where one neuron's mediated effect, TE - DE, stands among those of its controls."""
        own = self.own[0, place].mean() - self.own[1, place].mean()
        others = self.others[0, :, place].mean(-1) - self.others[1, :, place].mean(-1)
        found = standing(float(own), others.tolist())
        assert found is not None
        return found


def control_effects(
    engine: Engine, result: Result, places: Sequence[int], path: Path, *, last_layer: int, seed: int
) -> ControlEffects | None:
    """None where nothing can be compared: an empty set, a result of an earlier version, neurons of an earlier layer, a
    baseline that is no number (resampling)."""
    neurons = [result.neurons[place] for place in places]
    baseline = result.column("baseline")[list(places)]
    if result.sample_stream is None or result.sample_target is None or not neurons:
        return None
    if any(neuron.layer != last_layer for neuron in neurons) or not np.isfinite(baseline).all():
        return None
    showing = result.sample_showing if result.halves is not None and all(result.halves.rows) else None
    drawn = np.arange(len(result.sample_at)) if showing is None else showing.nonzero()[0]
    drawn = drawn[:TOKENS]
    if not len(drawn):
        return None
    readout, indices = engine.readout, [neuron.index for neuron in neurons]
    directions = matched(readout, indices, n_sets=N_CONTROLS, seed=seed)
    rows = torch.cat([readout.W_out[indices][None], directions])  # the set first, then its controls
    activations = torch.from_numpy(result.sampled("activation")[np.ix_(drawn, np.array(places))])
    parts = [torch.from_numpy(part[drawn]).to(readout.W_U) for part in result.sample_stream]
    last = LastLayer(parts[0], activations.to(readout.W_U).repeat(1, len(rows)), parts[1] if len(parts) > 1 else None)
    other = replace(engine, readout=replace(readout, W_out=rows.flatten(0, 1)), rows=None)
    blocks = stream(
        other,
        last,
        torch.from_numpy(result.sample_target[drawn]),
        baseline=torch.from_numpy(baseline).to(readout.W_U).repeat(len(rows)),
        conditions=("total", path),
    )
    found = np.full((2, len(drawn), len(rows) * len(neurons)), np.nan)
    for block in blocks:
        at, which = block.positions.cpu().numpy(), block.neurons.cpu().numpy()
        for condition, outcome in enumerate(block.outcomes[name] for name in ("total", path)):
            found[condition][np.ix_(at, which)] = outcome.d_loss.abs().double().cpu().numpy()
    every = found.reshape(2, len(drawn), len(rows), len(neurons)).transpose(0, 2, 3, 1)
    norms = readout.W_out[indices].double().norm(dim=1)
    return ControlEffects(tuple(norms.tolist()), every[:, 0], every[:, 1:])
