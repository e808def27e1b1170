"""A batch of rows run through the model: metrics of every position and the state of the last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.frequency import Unigram
from analysis.induction.steps import batches
from analysis.metrics import wide
from analysis.model import Hook, Model
from analysis.progress import Steps
from analysis.readout import Readout
from analysis.types import NeuronId


@dataclass(frozen=True, slots=True)
class RowMetrics:
    """One number for each position of each row; loss NaN and rank -1 at the last position, as in `trace`."""

    entropy: Float[Tensor, "row pos"]
    loss: Float[Tensor, "row pos"]
    ln_scale: Float[Tensor, "row pos"]
    top1_prob: Float[Tensor, "row pos"]
    rank: Int[Tensor, "row pos"]
    kl_unigram: Float[Tensor, "row pos"] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows after one pass. resid, activations, mlp_out: the last layer's, as in `trace.LastLayer`, float32 or wider."""

    tokens: Int[Tensor, "row pos"]
    metrics: RowMetrics
    resid: Float[Tensor, "row pos d_model"]
    activations: Float[Tensor, "row pos d_mlp"]
    mlp_out: Float[Tensor, "row pos d_model"] | None = None
    watched: dict[NeuronId, Float[Tensor, "row pos"]] = field(default_factory=dict)
    """Activations of the neurons asked for, any layer."""


def measure(
    model: Model,
    tokens: Int[Tensor, "row pos"],
    *,
    neurons: Sequence[NeuronId] = (),
    unigram: Unigram | None = None,
    hooks: Sequence[Hook] = (),
    stage: str = "forward passes",
) -> Steps[Measured]:
    """Run the rows in batches. ``hooks`` see each batch as a whole; ``neurons`` of any layer are watched."""
    tokens = tokens.to(model.device)
    last = f"blocks.{model.last_layer}"
    names = [f"{last}.hook_resid_post", f"{last}.mlp.hook_post"]
    if model.readout.post_norm is not None:
        names.append(f"{last}.mlp.hook_out")
    layers = {f"blocks.{model.check_neuron(neuron).layer}.mlp.hook_post" for neuron in neurons}
    parts = []
    for rows, progress in batches(model, tokens, stage):
        captured = model.run(tokens[rows], capture=[*names, *sorted(layers - set(names))], hooks=hooks)
        resid, activations, *rest = (wide(captured[name]) for name in names)
        parts.append(
            Measured(
                tokens[rows],
                row_metrics(model.readout, resid, tokens[rows], unigram),
                resid,
                activations,
                rest[0] if rest else None,
                {n: wide(captured[f"blocks.{n.layer}.mlp.hook_post"][:, :, n.index]) for n in neurons},
            )
        )
        yield progress
    return _joined(parts)


def row_metrics(
    readout: Readout,
    resid: Float[Tensor, "row pos d_model"],
    tokens: Int[Tensor, "row pos"],
    unigram: Unigram | None = None,
    *,
    scale: Float[Tensor, "row pos"] | None = None,
) -> RowMetrics:
    """Metrics of residual streams; with ``scale`` the LN scale is frozen to the values given."""
    s = readout.scale(resid) if scale is None else scale
    targets = tokens.roll(-1, dims=1).flatten()  # the last one of a row is a placeholder, taken back below
    x, flat = resid.flatten(0, 1), s.flatten()
    p_freq = None if unigram is None else unigram.p_freq.to(resid)
    chunk = metrics.positions_per_chunk(readout.d_vocab)
    parts = [
        metrics.summary(readout.logits(x[i : i + chunk], scale=flat[i : i + chunk]), targets[i : i + chunk], p_freq)
        for i in range(0, len(x), chunk)
    ]
    joined = {
        name: torch.cat([getattr(part, name) for part in parts]).view(tokens.shape)
        for name in ("entropy", "loss", "top1_prob", "rank")
    }
    at_end = torch.zeros_like(tokens, dtype=torch.bool)
    at_end[:, -1] = True
    cross = [part.cross_entropy for part in parts if part.cross_entropy is not None]
    return RowMetrics(
        entropy=joined["entropy"],
        loss=joined["loss"].masked_fill(at_end, torch.nan),
        ln_scale=s,
        top1_prob=joined["top1_prob"],
        rank=joined["rank"].masked_fill(at_end, -1),
        kl_unigram=torch.cat(cross).view(tokens.shape) - unigram.entropy if unigram is not None else None,
    )


def _joined(parts: list[Measured]) -> Measured:
    """Batches one below the other."""

    def stack(values: list[Tensor | None]) -> Tensor | None:
        found = [value for value in values if value is not None]
        return torch.cat(found) if found else None

    names = [field.name for field in fields(RowMetrics)]
    together = {name: stack([getattr(part.metrics, name) for part in parts]) for name in names}
    return Measured(
        torch.cat([part.tokens for part in parts]),
        RowMetrics(**together),  # type: ignore[arg-type]
        torch.cat([part.resid for part in parts]),
        torch.cat([part.activations for part in parts]),
        stack([part.mlp_out for part in parts]),
        {neuron: torch.cat([part.watched[neuron] for part in parts]) for neuron in parts[0].watched},
    )
