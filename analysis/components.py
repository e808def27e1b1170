"""What is written to the residual stream, by whom: the terms of which the last stream is the sum.

    x = embed (+ pos) + sum over heads + sum over MLPs + biases

The last MLP's write splits further, into one multiple of a fixed row a neuron. Behind a norm (Gemma 2/3, OLMo 2) a
head's write is ``gain * (z W_O) / r`` and a neuron's ``n * gain * w / r``, r being the norm's scale at that token:
exact sums there, too. Everything here is linear in what `terms` returns: the mean of writes is the writes of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.effects.clean import exact
from analysis.model import Model
from analysis.sinks import sinks_in
from analysis.types import InputError

BATCH, TOKENS = 16, 2048
"""Of a pass that takes one write out a row: rows and tokens at most, so that a long text takes no more memory."""

Kind = Literal["embedding", "position", "head", "mlp", "biases"]
Terms = Mapping[str, Tensor]
"""`embed`, `pos`, `z.<layer>`, `attention.<layer>`, `mlp.<layer>`, `neurons` (the last MLP's); `neurons.<layer>` where
every MLP's were captured. Leading dimensions are positions."""


@dataclass(frozen=True, slots=True)
class Component:
    """Something that writes to the residual stream; ``index`` is the head's."""

    kind: Kind
    layer: int | None = None
    index: int | None = None

    def __str__(self) -> str:
        match self.kind:
            case "head":
                return f"L{self.layer}H{self.index}"
            case "mlp":
                return f"MLP {self.layer}"
            case _:
                return self.kind

    @property
    def name(self) -> str:
        """As the API names it: ``embed``, ``pos``, ``L2H3``, ``L0.mlp``, ``bias``."""
        match self.kind:
            case "head":
                return f"L{self.layer}H{self.index}"
            case "mlp":
                return f"L{self.layer}.mlp"
            case _:
                return {"embedding": "embed", "position": "pos", "biases": "bias"}[self.kind]

    @property
    def site(self) -> str:
        """The hook at which the write joins the stream (InputError for the biases, which join it in many places)."""
        match self.kind:
            case "head":
                return f"blocks.{self.layer}.hook_attn_out"
            case "mlp":
                return f"blocks.{self.layer}.hook_mlp_out"
            case "embedding" | "position":
                return "blocks.0.hook_resid_pre"
            case "biases":
                raise InputError("The biases have no place of their own in the stream.")


@dataclass(frozen=True, slots=True)
class MeanWrites:
    """Means over a text. source: which. n_tokens: over how many. neurons: of n_i (of n_i / r behind a norm). every: of
    each MLP's, by layer, where they were captured (and no norm stands behind an MLP)."""

    components: tuple[Component, ...]
    writes: Float[Tensor, "component d_model"]
    neurons: Float[Tensor, " d_mlp"]
    source: str
    n_tokens: int
    every: tuple[Float[Tensor, " d_mlp"], ...] | None = None

    @property
    def positions(self) -> bool:
        """Whether position embeddings are a component of their own."""
        return any(component.kind == "position" for component in self.components)

    @property
    def stream(self) -> Float[Tensor, " d_model"]:
        """The baseline stream: the sum of all means."""
        return self.writes.sum(0)


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows done of rows to do; ``result`` comes with the last one."""

    done: int
    total: int
    result: MeanWrites | None = None


def rows_at_once(n_tokens: int) -> int:
    """Rows of one pass that takes a write out of each."""
    return max(1, min(BATCH, TOKENS // max(1, n_tokens)))


def names(model: Model, *, every: bool = False) -> list[str]:
    """The hooks that `terms` reads; every: the neurons of all MLPs among them."""
    last = f"blocks.{model.last_layer}"
    wanted = ["hook_embed", "blocks.0.hook_resid_pre", f"{last}.mlp.hook_post", f"{last}.mlp.hook_out"]
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        wanted += [f"{block}.attn.hook_z", f"{block}.attn.hook_out", f"{block}.hook_attn_out", f"{block}.hook_mlp_out"]
        wanted += [f"{block}.mlp.hook_post"] if every else []
    return list(dict.fromkeys(wanted))


def terms(model: Model, captured: Mapping[str, Tensor]) -> Terms:
    """What the writes are linear in, float64; ``captured`` without the batch's dimension."""
    pre, embed = exact(captured["blocks.0.hook_resid_pre"]), exact(captured["hook_embed"])
    by_name = {"embed": embed, "pos": pre - embed}
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        z = exact(captured[f"{block}.attn.hook_z"])
        z = z.reshape(*z.shape[: pre.ndim - 1], model.n_heads, -1)
        if model.post_attention_gain(layer) is not None:
            z = z / _rms(model, exact(captured[f"{block}.attn.hook_out"]))[..., None, None]
        by_name[f"z.{layer}"] = z
        by_name[f"attention.{layer}"] = exact(captured[f"{block}.hook_attn_out"])
        by_name[f"mlp.{layer}"] = exact(captured[f"{block}.hook_mlp_out"])
        if (post := captured.get(f"{block}.mlp.hook_post")) is not None and layer < model.last_layer:
            by_name[f"neurons.{layer}"] = exact(post)
    last = f"blocks.{model.last_layer}.mlp"
    neurons = exact(captured[f"{last}.hook_post"])
    if model.readout.post_norm is not None:
        neurons = neurons / _rms(model, exact(captured[f"{last}.hook_out"]))[..., None]
    return by_name | {"neurons": neurons, f"neurons.{model.last_layer}": neurons}


def components(model: Model, *, positions: bool) -> tuple[Component, ...]:
    """All of them in the order of `writes`; ``positions``: whether position embeddings are one of their own."""
    listed = [Component("embedding"), *([Component("position")] if positions else [])]
    for layer in range(model.n_layers):
        listed += [Component("head", layer, index) for index in range(model.n_heads)]
        listed.append(Component("mlp", layer))
    return (*listed, Component("biases"))


def writes(model: Model, term: Terms, *, positions: bool) -> Float[Tensor, "component *pos d_model"]:
    """What every component wrote; biases last."""
    listed = [term["embed"], term["pos"]] if positions else [term["embed"] + term["pos"]]
    biases = torch.zeros_like(term["embed"])
    for layer in range(model.n_layers):
        heads = torch.einsum("...hd,hdm->h...m", term[f"z.{layer}"], exact(model.W_O(layer)))
        if (gain := model.post_attention_gain(layer)) is not None:
            heads = heads * exact(gain)
        biases = biases + term[f"attention.{layer}"] - heads.sum(0)
        bias = model.mlp_bias(layer, "b_out")  # post-norm models have none
        own = torch.zeros_like(biases[..., :1]) if bias is None else exact(bias)
        biases = biases + own
        listed += [*heads, term[f"mlp.{layer}"] - own]
    return torch.stack([*listed, biases])


def mean_writes(
    model: Model, rows: Sequence[Sequence[int]], *, source: str, keep_sinks: bool = False
) -> Iterator[Progress]:
    """Means over all positions of ``rows`` but attention sinks (unless they are kept), one row a step."""
    if not rows:
        raise InputError("The reference text is empty.", code="empty_text")
    total: dict[str, Tensor] = {}
    n_tokens = 0
    for done, row in enumerate(rows, start=1):
        captured = model.run(model.tokens(row), capture=names(model, every=model.readout.post_norm is None))
        skip = sinks_in(model, len(row), keep=keep_sinks)
        for name, value in terms(model, {key: each[0] for key, each in captured.items()}).items():
            total[name] = value[skip:].sum(0) + total.get(name, 0)
        n_tokens += len(row) - skip
        if done < len(rows):
            yield Progress(done, len(rows))
    yield Progress(len(rows), len(rows), _means(model, total, n_tokens, source))


def prompt_means(model: Model, term: Terms, *, source: str = "this prompt", keep_sinks: bool = False) -> MeanWrites:
    """Means over the positions of one run but an attention sink (unless it is kept)."""
    n_tokens = len(term["embed"])
    skip = sinks_in(model, n_tokens, keep=keep_sinks)
    return _means(model, {name: value[skip:].sum(0) for name, value in term.items()}, n_tokens - skip, source)


def _means(model: Model, total: Terms, n_tokens: int, source: str) -> MeanWrites:
    means = {name: value / n_tokens for name, value in total.items()}
    positions = bool(means["pos"].any())  # whether anything is added to the token embeddings before the first block
    return MeanWrites(
        components=components(model, positions=positions),
        writes=writes(model, means, positions=positions),
        neurons=means["neurons"],
        source=source,
        n_tokens=n_tokens,
        every=_every(model, means),
    )


def _every(model: Model, means: Terms) -> tuple[Tensor, ...] | None:
    by_layer = [means.get(f"neurons.{layer}") for layer in range(model.n_layers)]
    known = tuple(each for each in by_layer if each is not None)
    return known if len(known) == model.n_layers and model.readout.post_norm is None else None


def _rms(model: Model, x: Float[Tensor, "*pos d_model"]) -> Float[Tensor, "*pos"]:
    post_norm = model.readout.post_norm
    assert post_norm is not None
    return post_norm.scale(x)
