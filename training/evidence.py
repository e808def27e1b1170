"""What the bar measures in a model's last layer: rows half of which are corrupted afresh, every neuron mean-ablated
in closed form.

1. documents -> rows of min(n_ctx, 256) tokens with BOS, short ones left out; every second row corrupted with a fixed
   seed (drawn as in training, but anew), its rate remembered;
2. one forward pass a row; each neuron's mean over all rows is the baseline of its ablation;
3. effects at every `stride`-th kept position (the paper's filter), total, with the LN scale frozen, with
   the frequency component frozen;
4. geometry from the weights: norm, LogitVar, rho at the knee.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from analysis import nullspace, reference, weights
from analysis.apply import kept_mask
from analysis.effects.ablation import Condition
from analysis.effects.engine import Engine
from analysis.effects.stream import stream
from analysis.frequency import Unigram
from analysis.metrics import wide
from analysis.model import Model
from analysis.trace import LastLayer
from analysis.types import TokenFilter
from training.recipe import Corruption
from training.rows import corrupt

SHORTEST_ROW = 64
STRIDE = 4


@dataclass(frozen=True)
class Evidence:
    """Columns over the last layer's neurons. `te`: mean |dLoss|; fractions as in METHODS section 3 and 4; d_...: mean
    absolute changes.

    correlation: of the neuron's mean activation over a corrupted row with the row's rate; over_all: clean rows taken
    in with rate 0.
    """

    k: int
    norm: Float[Tensor, " n"]
    logit_var: Float[Tensor, " n"]
    rho: Float[Tensor, " n"]
    te: Float[Tensor, " n"]
    ln_fraction: Float[Tensor, " n"]
    frequency_fraction: Float[Tensor, " n"]
    d_entropy: Float[Tensor, " n"]
    d_kl: Float[Tensor, " n"]
    correlation: Float[Tensor, " n"]
    correlation_over_all: Float[Tensor, " n"]

    @staticmethod
    def share_above(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Share of the layer's neurons that rank before each one, largest value first."""
        return (-values).argsort().argsort().double() / len(values)


def corrupted_rows(
    model: Model, texts: Sequence[str], unigram: Unigram, *, seed: int, n_rows: int | None = None
) -> tuple[list[list[int]], NDArray[np.float64]]:
    """Rows of tokens and the corruption rate of each (0: clean)."""
    rng = np.random.default_rng(seed)
    rows = [row for row in reference.rows_of(model, texts) if len(row) >= SHORTEST_ROW][:n_rows]
    p, rates = unigram.p_freq.double().numpy(), np.zeros(len(rows))
    p = p / p.sum()
    for i in range(seed % 2, len(rows), 2):
        ids, rates[i] = corrupt(np.asarray(rows[i][1:]), Corruption(), p, rng)
        rows[i] = [rows[i][0], *ids.tolist()]
    return rows, rates


def last_layer(model: Model, rows: Sequence[Sequence[int]]) -> list[LastLayer]:
    """One forward pass a row."""
    name = f"blocks.{model.last_layer}"
    found = []
    for row in rows:
        captured = model.run(model.tokens(row), capture=(f"{name}.hook_resid_post", f"{name}.mlp.hook_post"))
        resid, activations = (wide(captured[f"{name}.{hook}"][0]) for hook in ("hook_resid_post", "mlp.hook_post"))
        found.append(LastLayer(resid, activations))
    return found


def correlations(activations: Float[Tensor, "row n"], rates: NDArray[np.float64]) -> Float[Tensor, " n"]:
    """Pearson correlation of each column with the rates; 0 where a column is constant."""
    x = activations.double() - activations.double().mean(0)
    y = torch.from_numpy(rates - rates.mean())
    return torch.nan_to_num((x.T @ y) / (x.norm(dim=0) * y.norm()))


@torch.inference_mode()
def measure(
    model: Model,
    texts: Sequence[str],
    unigram: Unigram,
    *,
    seed: int,
    n_rows: int | None = None,
    stride: int = STRIDE,
    neurons: Sequence[int] | None = None,
) -> Evidence:
    """All columns, for one seed. ``neurons``: only their effects are computed (the others' read NaN)."""
    rows, rates = corrupted_rows(model, texts, unigram, seed=seed, n_rows=n_rows)
    parts = last_layer(model, rows)
    joined = LastLayer(torch.cat([part.resid for part in parts]), torch.cat([part.activations for part in parts]))
    targets = torch.tensor([target for row in rows for target in (*row[1:], -1)])
    kept = torch.cat([kept_mask(TokenFilter(), torch.tensor([row]), model.excluded_ids)[0] for row in rows])
    positions = kept.nonzero()[::stride, 0]
    sums = _effects(model, joined, targets, positions, unigram, neurons)
    means = torch.stack([part.activations.mean(0) for part in parts])
    noisy = rates > 0
    readout = model.readout
    spectrum = nullspace.spectrum(readout)
    vocabulary = weights.Vocabulary.of(readout, unigram)
    return Evidence(
        k=spectrum.k,
        norm=readout.W_out.double().norm(dim=1),
        logit_var=vocabulary.logit_var(readout.W_out.double() / readout.W_out.double().norm(dim=1, keepdim=True)),
        rho=nullspace.rho(readout.W_out, spectrum.basis(spectrum.k)),
        te=sums["total"],
        ln_fraction=1 - sums["direct"] / sums["total"],
        frequency_fraction=1 - sums["frequency"] / sums["total"],
        d_entropy=sums["entropy"],
        d_kl=sums["kl"],
        correlation=correlations(means[torch.from_numpy(noisy)], rates[noisy]),
        correlation_over_all=correlations(means, rates),
    )


def _effects(
    model: Model,
    last: LastLayer,
    targets: Tensor,
    positions: Tensor,
    unigram: Unigram,
    neurons: Sequence[int] | None,
) -> dict[str, Float[Tensor, " n"]]:
    """Means over positions of |dLoss| under three conditions, and of |dH| and |dKL(P_freq ‖ P)|."""
    engine = Engine.build(model.readout, unigram=unigram)
    conditions: tuple[Condition, ...] = ("total", "direct", "frequency")
    sums = {name: torch.zeros(model.d_mlp, dtype=torch.float64) for name in (*conditions, "entropy", "kl")}
    baseline = last.activations.mean(0)
    for block in stream(
        engine, last, targets, baseline=baseline, positions=positions, neurons=neurons, conditions=conditions
    ):
        for condition in conditions:
            sums[condition][block.neurons] += block.outcomes[condition].d_loss.abs().sum(0)
        total = block.outcomes["total"]
        assert total.d_kl_unigram is not None
        sums["entropy"][block.neurons] += total.d_entropy.abs().sum(0)
        sums["kl"][block.neurons] += total.d_kl_unigram.abs().sum(0)
    left_out = torch.ones(model.d_mlp, dtype=torch.bool)
    left_out[slice(None) if neurons is None else list(neurons)] = False
    return {name: (value / len(positions)).masked_fill(left_out, torch.nan) for name, value in sums.items()}
