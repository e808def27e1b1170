"""Run a prompt, clean or with interventions, and keep what the last layer's mathematics needs (METHODS section 1).

A `Trace` is one forward pass: the last residual stream, the last layer's activations, and per position the entropy of
the predicted distribution, the loss of the token that follows, the LN scale, KL to the unigram distribution, the
probability of the top token and the rank of the one that follows.

Interventions on last-layer neurons need no second forward pass: only the final norm and ``W_U`` follow, so the residual
stream changes by ``(n' - n) w`` (through the norm after the MLP where there is one). Any other layer, and any attention
head, takes a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import interrupt, metrics
from analysis.apply import edited
from analysis.attention import check_head, head_hooks, mean_outputs
from analysis.frequency import Unigram
from analysis.metrics import wide
from analysis.model import Hook, Model
from analysis.readout import Readout
from analysis.types import HeadIntervention, Intervention, NeuronId, check_disjoint

AnyIntervention = Intervention | HeadIntervention


@dataclass(frozen=True, slots=True)
class PositionMetrics:
    """One number a position. ``loss`` and ``rank`` speak of the next token: NaN and -1 at the last position."""

    entropy: Float[Tensor, " pos"]
    loss: Float[Tensor, " pos"]
    ln_scale: Float[Tensor, " pos"]
    top1_prob: Float[Tensor, " pos"]
    rank: Int[Tensor, " pos"]
    kl_unigram: Float[Tensor, " pos"] | None = None


@dataclass(frozen=True, slots=True)
class LastLayer:
    """resid: the last residual stream; activations: the last MLP's; mlp_out: its output before a post-norm, if any."""

    resid: Float[Tensor, "pos d_model"]
    activations: Float[Tensor, "pos d_mlp"]
    mlp_out: Float[Tensor, "pos d_model"] | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One run of one text. ``activations``: the neurons asked for, any layer, one value a position."""

    token_ids: tuple[int, ...]
    metrics: PositionMetrics
    last: LastLayer
    activations: dict[NeuronId, Float[Tensor, " pos"]] = field(default_factory=dict)
    interventions: tuple[AnyIntervention, ...] = ()

    def __len__(self) -> int:
        return len(self.token_ids)

    def target(self, position: int) -> int | None:
        """The token that follows ``position``; None at the last one."""
        return self.token_ids[position + 1] if position + 1 < len(self.token_ids) else None


@dataclass(frozen=True, slots=True)
class TopTokens:
    """The most probable next tokens at every position, best first."""

    ids: Int[Tensor, "pos k"]
    log_probs: Float[Tensor, "pos k"]


def trace(
    model: Model,
    token_ids: Sequence[int],
    *,
    interventions: Sequence[AnyIntervention] = (),
    neurons: Sequence[NeuronId] = (),
    unigram: Unigram | None = None,
    means: Float[Tensor, "n_layers d_mlp"] | None = None,
    readout: Readout | None = None,
) -> Trace:
    """One forward pass over ``token_ids``, with the interventions as hooks.

    means: reference means, needed by interventions of mode "mean". readout: another readout than the model's own (the
    "no LayerNorm" switch). InputError for impossible tokens, neurons, heads or positions; NotReadyError without means.
    """
    readout = readout or model.readout
    tokens = model.tokens(token_ids)
    for neuron in neurons:
        model.check_neuron(neuron)
    hooks = hooks_of(model, tokens, interventions, means)
    last = f"blocks.{model.last_layer}"
    names = {f"{last}.hook_resid_post", f"{last}.mlp.hook_post", *(_post(neuron.layer) for neuron in neurons)}
    if readout.post_norm is not None:
        names.add(f"{last}.mlp.hook_out")
    captured = model.run(tokens, capture=sorted(names), hooks=hooks)
    values = {name: wide(value[0]) for name, value in captured.items()}
    resid = values[f"{last}.hook_resid_post"]
    return Trace(
        tuple(token_ids),
        position_metrics(readout, resid, tokens[0], unigram),
        LastLayer(resid, values[_post(model.last_layer)], values.get(f"{last}.mlp.hook_out")),
        {neuron: values[_post(neuron.layer)][:, neuron.index] for neuron in neurons},
        tuple(interventions),
    )


def read_with(clean: Trace, readout: Readout, unigram: Unigram | None = None) -> Trace:
    """The same run seen through another readout: what the "no LayerNorm" switch does."""
    tokens = torch.tensor(clean.token_ids, device=clean.last.resid.device)
    return replace(clean, metrics=position_metrics(readout, clean.last.resid, tokens, unigram))


def intervene(
    model: Model,
    clean: Trace,
    interventions: Sequence[AnyIntervention],
    *,
    unigram: Unigram | None = None,
    means: Float[Tensor, "n_layers d_mlp"] | None = None,
    readout: Readout | None = None,
    method: Literal["auto", "closed_form", "hooks"] = "auto",
) -> Trace:
    """The same text with interventions: in closed form when all are on last-layer neurons, else by a second pass."""
    last = [i for i in interventions if isinstance(i, Intervention) and i.neuron.layer == model.last_layer]
    only_last = len(last) == len(interventions)
    if method == "hooks" or (method == "auto" and not only_last):
        return trace(
            model,
            clean.token_ids,
            interventions=interventions,
            neurons=tuple(clean.activations),
            unigram=unigram,
            means=means,
            readout=readout,
        )
    if not only_last:
        raise ValueError("The closed form covers last-layer neurons only.")
    return _closed_form(model, clean, last, unigram, means, readout or model.readout)


def _closed_form(
    model: Model,
    clean: Trace,
    interventions: Sequence[Intervention],
    unigram: Unigram | None,
    means: Tensor | None,
    readout: Readout,
) -> Trace:
    for intervention in interventions:
        model.check_neuron(intervention.neuron)
    activations = _edited(clean.last.activations[None], interventions, means)[0]
    touched = sorted({intervention.neuron.index for intervention in interventions})
    delta = (activations - clean.last.activations)[:, touched]
    resid = readout.write(clean.last.resid, clean.last.mlp_out, delta, readout.W_out[touched])
    tokens = torch.tensor(clean.token_ids, device=resid.device)
    return Trace(
        clean.token_ids,
        position_metrics(readout, resid, tokens, unigram),
        LastLayer(resid, activations, clean.last.mlp_out),
        {
            neuron: activations[:, neuron.index] if neuron.layer == model.last_layer else values
            for neuron, values in clean.activations.items()
        },
        tuple(interventions),
    )


def hooks_of(
    model: Model,
    tokens: Int[Tensor, "1 pos"],
    interventions: Sequence[AnyIntervention],
    means: Float[Tensor, "n_layers d_mlp"] | None,
) -> list[Hook]:
    """One hook a layer for neurons and one for heads; heads' means are those of a clean pass over the same text."""
    check_disjoint(interventions, tokens.shape[1])
    heads = [item for item in interventions if isinstance(item, HeadIntervention)]
    for item in heads:
        check_head(model, item.head)
    averaged = {item.head.layer for item in heads if item.mode == "mean"}
    neurons = [item for item in interventions if isinstance(item, Intervention)]
    layers = sorted({model.check_neuron(item.neuron).layer for item in neurons})

    def hook(layer: int) -> Hook:
        here = [item for item in neurons if item.neuron.layer == layer]
        return _post(layer), lambda activations: _edited(activations, here, means)

    return [
        *map(hook, layers),
        *head_hooks(heads, means=mean_outputs(model, tokens, averaged) if averaged else None),
    ]


def _edited(
    activations: Float[Tensor, "batch pos d_mlp"],
    interventions: Sequence[Intervention],
    means: Float[Tensor, "n_layers d_mlp"] | None,
) -> Float[Tensor, "batch pos d_mlp"]:
    """A new tensor with the interventions carried out (all on one layer)."""
    n_positions = activations.shape[1]
    check_disjoint(interventions, n_positions)
    return edited(activations, [(item, item.at(n_positions)) for item in interventions], means)


def position_metrics(
    readout: Readout,
    resid: Float[Tensor, "pos d_model"],
    token_ids: Int[Tensor, " pos"],
    unigram: Unigram | None = None,
) -> PositionMetrics:
    """Every per-position number from the last residual stream; logits are held for a chunk of positions at a time."""
    targets = torch.cat([token_ids[1:], token_ids[:1]])  # the last one is a placeholder, taken back below
    p_freq = None if unigram is None else unigram.p_freq.to(resid)
    scale = readout.scale(resid)
    chunk = metrics.positions_per_chunk(readout.d_vocab)
    parts = []
    for x, s, target in zip(*(torch.split(part, chunk) for part in (resid, scale, targets)), strict=True):
        interrupt.check()
        parts.append(metrics.summary(readout.logits(x, scale=s), target, p_freq))
    loss, rank = (torch.cat([getattr(part, name) for part in parts]) for name in ("loss", "rank"))
    loss[-1], rank[-1] = float("nan"), -1
    cross = [part.cross_entropy for part in parts if part.cross_entropy is not None]
    return PositionMetrics(
        entropy=torch.cat([part.entropy for part in parts]),
        loss=loss,
        ln_scale=scale,
        top1_prob=torch.cat([part.top1_prob for part in parts]),
        rank=rank,
        kl_unigram=torch.cat(cross) - unigram.entropy if unigram is not None else None,
    )


def top_tokens(readout: Readout, resid: Float[Tensor, "pos d_model"], k: int) -> TopTokens:
    """The k most probable next tokens at every position."""
    chunk = metrics.positions_per_chunk(readout.d_vocab)
    starts = range(0, resid.shape[0], chunk)
    best = [readout.log_probs(resid[i : i + chunk]).topk(min(k, readout.d_vocab), dim=-1) for i in starts]
    return TopTokens(torch.cat([top.indices for top in best]), torch.cat([top.values for top in best]))


def _post(layer: int) -> str:
    return f"blocks.{layer}.mlp.hook_post"
