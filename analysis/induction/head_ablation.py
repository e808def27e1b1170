"""Attention heads taken out: BOS, mean and zero ablation (paper section 5, figure 5c).

BOS ablation of a head at query p: its attention row at p becomes 1 on key 0 and 0 elsewhere, at p only. Its output at p
is then the value of key 0, which is also what it writes at query 0, where nothing else can be seen. So one line does it
in every architecture: ``z[p] = z[0]``. (Editing the pattern itself is lost without an error in OPT.)

Position-local, as in the paper: every query is ablated in a forward pass of its own, and read at that query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.induction.heads import HeadId
from analysis.induction.measure import Measured
from analysis.induction.steps import Progress, Steps, batches, rows_per_batch, seeded
from analysis.metrics import wide
from analysis.model import Hook, Model
from analysis.types import InputError, NeuronId

HeadMode = Literal["bos", "mean", "zero"]


def head_hooks(
    heads: Sequence[HeadId],
    mode: HeadMode,
    *,
    queries: Int[Tensor, " row"] | None = None,
    positions: Sequence[int] | None = None,
    means: dict[int, Float[Tensor, "head d_head"]] | None = None,
) -> list[Hook]:
    """One hook a layer that ablates ``heads``: at every position, at ``positions`` of every row, or in each row at its
    own query alone.

    means: mean output of each head by layer (see `head_means`), needed by the mode "mean".
    """
    if mode == "mean" and means is None:
        raise InputError("Mean ablation of heads needs their means.")

    def hook(layer: int) -> Hook:
        here = [head.head for head in heads if head.layer == layer]

        def ablate(z: Float[Tensor, "row pos head d_head"]) -> Float[Tensor, "row pos head d_head"]:
            new = z[:, :1].expand_as(z) if mode == "bos" else torch.zeros_like(z)
            if mode == "mean" and means is not None:
                new = means[layer].to(z).expand_as(z)
            touched = torch.zeros(z.shape[:3], dtype=torch.bool, device=z.device)
            for head in here:
                if queries is not None:
                    touched[torch.arange(len(z), device=z.device), queries.to(z.device), head] = True
                else:
                    touched[:, slice(None) if positions is None else list(positions), head] = True
            return torch.where(touched[..., None], new, z)

        return f"blocks.{layer}.attn.hook_z", ablate

    return [hook(layer) for layer in sorted({head.layer for head in heads})]


def head_means(
    model: Model, tokens: Int[Tensor, "row pos"], layers: Sequence[int]
) -> Steps[dict[int, Float[Tensor, "head d_head"]]]:
    """Mean output of each head over all positions of the rows, for the layers asked for."""
    tokens = tokens.to(model.device)
    names = {layer: f"blocks.{layer}.attn.hook_z" for layer in sorted(set(layers))}
    total: dict[int, Tensor] = {}
    for rows, progress in batches(model, tokens, "mean output of heads"):
        captured = model.run(tokens[rows], capture=list(names.values()))
        for layer, name in names.items():
            seen = captured[name].double().sum((0, 1))
            total[layer] = total[layer] + seen if layer in total else seen
        yield progress
    return {layer: value / tokens.numel() for layer, value in total.items()}


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
    means: dict[int, Float[Tensor, "head d_head"]] | None = None,
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
        hooks = head_hooks(heads, mode, queries=at, means=means)
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
    """``n_sets`` random sets of ``size`` heads, none of them among ``taken``."""
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
    generator = seeded(seed)
    draws = [torch.randperm(len(others), generator=generator)[:size].tolist() for _ in range(n_sets)]
    return [tuple(sorted(others[index] for index in drawn)) for drawn in draws]
