"""Heads ablated at one query, and what the neurons do there: BOS, mean and zero ablation (paper section 5, figure 5c).

Position-local, as in the paper: every query is ablated in a forward pass of its own, and read at that query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.attention import HeadMeans, head_hooks, mean_outputs
from analysis.induction.measure import Measured
from analysis.induction.steps import batches, rows_per_batch, seeded
from analysis.metrics import wide
from analysis.model import Model
from analysis.progress import Progress, Steps
from analysis.types import HeadId, HeadIntervention, HeadMode, InputError, NeuronId


def head_means(model: Model, tokens: Int[Tensor, "row pos"], layers: Sequence[int]) -> Steps[HeadMeans]:
    """Mean output of each head over all positions of the rows, for the layers asked for."""
    tokens = tokens.to(model.device)
    total = {layer: torch.zeros(()) for layer in layers}
    for rows, progress in batches(model, tokens, "mean output of heads"):
        seen = mean_outputs(model, tokens[rows], layers)
        total = {layer: total[layer].to(value) + value * len(tokens[rows]) for layer, value in seen.items()}
        yield progress
    return {layer: value / len(tokens) for layer, value in total.items()}


@dataclass(frozen=True, slots=True)
class Local:
    """Read at each query: activations of neurons, entropy and LN scale, one number a row and query."""

    activations: dict[NeuronId, Float[Tensor, "row query"]]
    entropy: Float[Tensor, "row query"]
    ln_scale: Float[Tensor, "row query"]


def clean_at(measured: Measured, queries: Sequence[int]) -> Local:
    """The clean run at the queries; the neurons are those that were watched."""
    where = list(queries)
    found = measured.metrics
    return Local(
        {neuron: values[:, where] for neuron, values in measured.watched.items()},
        found.entropy[:, where],
        found.ln_scale[:, where],
    )


def ablated_at(
    model: Model,
    tokens: Int[Tensor, "row pos"],
    queries: Sequence[int],
    heads: Sequence[HeadId],
    *,
    neurons: Sequence[NeuronId] = (),
    mode: HeadMode = "bos",
    means: HeadMeans | None = None,
    stage: str = "ablated queries",
) -> Steps[Local]:
    """Ablate ``heads`` at each query by itself and read there: rows * queries forward passes, batched."""
    # Ordered by query, since what follows the query cannot change what is read there and is left out.
    pairs = torch.cartesian_prod(torch.tensor(list(queries)), torch.arange(len(tokens))).view(-1, 2)
    last = f"blocks.{model.last_layer}.hook_resid_post"
    posts = {neuron: f"blocks.{model.check_neuron(neuron).layer}.mlp.hook_post" for neuron in neurons}
    chunks = torch.split(pairs, rows_per_batch(model, tokens.shape[1]))
    parts: list[tuple[Tensor, ...]] = []
    for done, chunk in enumerate(chunks, start=1):
        at, rows = chunk.T
        seen = tokens[rows, : int(at.max()) + 1].to(model.device)
        hooks = head_hooks([HeadIntervention(head, mode) for head in heads], queries=at, means=means)
        captured = model.run(seen, capture=sorted({last, *posts.values()}), hooks=hooks)
        here = torch.arange(len(chunk), device=model.device), at.to(model.device)
        resid = wide(captured[last][here])
        values = [wide(captured[name][here][:, neuron.index]) for neuron, name in posts.items()]
        parts.append((metrics.entropy(model.readout.log_probs(resid)), model.readout.scale(resid), *values))
        yield Progress(stage, done, len(chunks))
    shape = len(queries), len(tokens)
    entropy, scale, *values = (torch.cat(column).view(shape).T for column in zip(*parts, strict=True))
    return Local(dict(zip(neurons, values, strict=True)), entropy, scale)


def random_heads(
    model: Model, taken: Sequence[HeadId], *, size: int, n_sets: int, seed: int
) -> list[tuple[HeadId, ...]]:
    """``n_sets`` random sets of ``size`` heads, none of them among ``taken`` and no set drawn twice; every set there is
    where these are fewer."""
    others = [
        HeadId(layer, head)
        for layer in range(model.n_layers)
        for head in range(model.n_heads)
        if HeadId(layer, head) not in set(taken)
    ]
    if size > len(others):
        raise InputError(
            f"{len(taken)} heads are chosen, {len(others)} are left; a control needs {size}.",
            code="too_many_heads",
            hint="Choose fewer heads.",
        )
    if comb(len(others), size) <= n_sets:
        return list(combinations(others, size))
    generator = seeded(seed)
    drawn: dict[tuple[HeadId, ...], None] = {}
    while len(drawn) < n_sets:
        places = torch.randperm(len(others), generator=generator)[:size].tolist()
        drawn[tuple(sorted(others[place] for place in places))] = None
    return list(drawn)
