"""The clean run of a prompt, and the exact linear parts of what a node of a circuit reads in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.circuit.nodes import Node
from analysis.components import Component, MeanWrites, Terms, names, terms, writes
from analysis.effects.clean import exact
from analysis.model import Model
from analysis.sinks import sinks_in
from analysis.types import UnsupportedModelError


@dataclass(eq=False)
class Clean:
    """A prompt run once for circuits: `read` makes it. skip: first tokens that an average over it leaves out."""

    model: Model
    token_ids: tuple[int, ...]
    means: MeanWrites
    terms: Terms
    streams: dict[str, Tensor]
    skip: int
    _changes: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    @property
    def everywhere(self) -> tuple[int, ...]:
        """All positions: where a node of an average stands."""
        return tuple(range(len(self.token_ids)))

    def changes(self, positions: Sequence[int]) -> Float[Tensor, "component pos d_model"]:
        """c - c0 of every component."""
        at = tuple(positions)
        if at not in self._changes:
            some = {name: value[list(at)] for name, value in self.terms.items()}
            wrote = writes(self.model, some, positions=self.means.positions)
            self._changes[at] = wrote - self.means.writes[:, None]
        return self._changes[at]

    def neurons(self, layer: int) -> Float[Tensor, "pos d_mlp"]:
        return self.terms[f"neurons.{layer}"]

    def mean_neurons(self, layer: int) -> Float[Tensor, " d_mlp"]:
        assert self.means.every is not None
        return self.means.every[layer]

    def pattern(self, layer: int) -> Float[Tensor, "head query source"]:
        return self.streams[f"blocks.{layer}.attn.hook_pattern"][0]

    def values(self, layer: int, head: int) -> Float[Tensor, "pos d_head"]:
        v = self.streams[f"blocks.{layer}.attn.hook_v"][0]
        return exact(v[:, head * v.shape[1] // self.model.n_heads])


@torch.inference_mode()
def read(model: Model, token_ids: Sequence[int], means: MeanWrites, *, keep_sinks: bool = False) -> Clean:
    """One forward pass. UnsupportedModelError where a norm stands behind a block."""
    if model.readout.post_norm is not None or means.every is None:
        raise UnsupportedModelError(
            f"Circuits of {model.key} are not followed: a norm stands behind its blocks.",
            code="post_norm",
            hint="Its predictions can be taken apart all the same (why).",
        )
    more = [f"blocks.{layer}.attn.{hook}" for layer in range(model.n_layers) for hook in ("hook_pattern", "hook_v")]
    captured = model.run(model.tokens(token_ids), capture=[*names(model, every=True), *more])
    whole = terms(model, {name: value[0] for name, value in captured.items()})
    skip = sinks_in(model, len(token_ids), keep=keep_sinks)
    return Clean(model, tuple(token_ids), means, whole, {name: captured[name] for name in more}, skip)


def where(clean: Clean, node: Node) -> tuple[int, ...]:
    """The positions at which a node reads the stream: of an average, all."""
    if node.position is None:
        return clean.everywhere
    return (node.position if node.source is None else node.source,)


def direction(clean: Clean, node: Node, weight: Tensor) -> Float[Tensor, "pos d_model"]:
    """What of the stream that a node reads counts, in the root's activation. weight: [pos] of its activation, or
    [pos d_head] of its value, at the positions where it reads."""
    model = clean.model
    x = stream(clean, node)
    if node.kind == "head":
        read = weight @ exact(model.W_V(node.layer)[node.index]).T
        return _through(model, x, read, model.attention_norm(node.layer))
    change = _before(clean, node)[0].sum(0)
    norm, column = model.mlp_norm(node.layer), exact(model.W_in(node.layer)[:, node.index])
    read_in = _through(model, x, column, norm)
    pre, gate = inputs(clean, node, x)
    f = model.activation(node.layer)
    moved = (read_in * change).sum(-1)
    if (gates := model.W_gate(node.layer)) is None or gate is None:
        return (weight * _secant(f, pre, moved))[:, None] * read_in
    read_gate = _through(model, x, exact(gates[:, node.index]), norm)
    opened = (read_gate * change).sum(-1)
    up = (_secant(f, gate, opened) * (pre - moved / 2))[:, None] * read_gate
    return weight[:, None] * (up + ((f(gate) + f(gate - opened)) / 2)[:, None] * read_in)


def _secant(f: Callable[[Tensor], Tensor], end: Tensor, change: Tensor) -> Tensor:
    """The slope of f between end - change and end; at end where they are the same."""
    small = change.abs() < 1e-6
    step = torch.where(small, torch.full_like(change, 1e-4), change)
    start = torch.where(small, end - step / 2, end - step)
    return (f(start + step) - f(start)) / step


Norm = tuple[Tensor | None, Tensor | None]


def centred_and_scale(model: Model, x: Float[Tensor, "*pos d_model"]) -> tuple[Tensor, Tensor]:
    """Centred where the norm does, and s (of one number a position, with d_model's dimension kept)."""
    xc = x - x.mean(-1, keepdim=True) if model.norm == "LN" else x
    return xc, (xc.square().mean(-1, keepdim=True) + model.eps).sqrt()


def _through(
    model: Model, x: Float[Tensor, "pos d_model"], read: Float[Tensor, "*pos d_model"], norm: Norm
) -> Float[Tensor, "pos d_model"]:
    """The direction of the stream x that ``read`` sees behind a norm whose scale is held."""
    u = (read if norm[0] is None else exact(norm[0]) * read) / centred_and_scale(model, x)[1]
    return u - u.mean(-1, keepdim=True) if model.norm == "LN" else u


def normed(model: Model, x: Float[Tensor, "*pos d_model"], norm: Norm) -> Tensor:
    xc, s = centred_and_scale(model, x)
    y = xc / s if norm[0] is None else exact(norm[0]) * xc / s
    return y if norm[1] is None else y + exact(norm[1])


def inputs(clean: Clean, node: Node, x: Float[Tensor, "pos d_model"]) -> tuple[Tensor, Tensor | None]:
    """A neuron's input from the stream x, and its gate's."""
    model = clean.model
    y = normed(model, x, model.mlp_norm(node.layer))
    pre = y @ exact(model.W_in(node.layer)[:, node.index])
    if (bias := model.mlp_bias(node.layer, "b_in")) is not None:
        pre = pre + exact(bias[node.index])
    gates = model.W_gate(node.layer)
    return pre, None if gates is None else y @ exact(gates[:, node.index])


def _before(clean: Clean, node: Node) -> tuple[Float[Tensor, "component pos d_model"], list[Component]]:
    """c - c0 of all that a node reads, where it reads."""
    reads_attention = node.kind == "neuron" and not clean.model.parallel

    def read_by(component: Component) -> bool:
        if component.layer is None:
            return True
        return component.layer < node.layer or (
            component.layer == node.layer and component.kind == "head" and reads_attention
        )

    rows = [i for i, component in enumerate(clean.means.components) if read_by(component)]
    return clean.changes(where(clean, node))[rows], [clean.means.components[i] for i in rows]


def stream(clean: Clean, node: Node) -> Float[Tensor, "pos d_model"]:
    """What a node reads, before the norm."""
    at = list(where(clean, node))
    x = clean.terms["embed"][at] + clean.terms["pos"][at]
    for layer in range(node.layer):
        x = x + clean.terms[f"attention.{layer}"][at] + clean.terms[f"mlp.{layer}"][at]
    reads_attention = node.kind == "neuron" and not clean.model.parallel
    return x + clean.terms[f"attention.{node.layer}"][at] if reads_attention else x


@dataclass(frozen=True, eq=False)
class Block:
    """What one component brings, by part: a head's sources, an MLP's neurons; else itself alone.

    ``node(i)``: the i-th part. ``weight(i)``: of its activation or value, at the positions where it reads.
    """

    component: Component
    shares: Float[Tensor, " part"]
    node: Callable[[int], Node]
    weight: Callable[[int], Tensor]


def blocks_read(clean: Clean, node: Node, u: Float[Tensor, "pos d_model"]) -> Iterator[Block]:
    """All that a node reads."""
    position = None if node.position is None else where(clean, node)[0]
    changes, components = _before(clean, node)
    whole = torch.einsum("cpd,pd->c", changes, u)
    for i, component in enumerate(components):
        match component.kind, component.layer, component.index:
            case "head", int(layer), int(head):
                yield by_source(clean, layer, head, position, u, whole[i : i + 1])
            case "mlp", int(layer), _:
                yield by_neuron(clean, layer, position, u)
            case ("embedding" | "position" | "biases") as kind, _, _:
                part = Node(kind, -1, 0, position)
                yield Block(component, whole[i : i + 1], lambda _, part=part: part, lambda _: u)  # type: ignore[misc]


def by_neuron(clean: Clean, layer: int, position: int | None, u: Float[Tensor, "pos d_model"]) -> Block:
    """What an MLP wrote at the positions of ``u``."""
    at = list(clean.everywhere) if position is None else [position]
    slopes = u @ exact(clean.model.W_out(layer)).T
    shares = ((clean.neurons(layer)[at] - clean.mean_neurons(layer)) * slopes).sum(0)
    return Block(Component("mlp", layer), shares, lambda j: Node("neuron", layer, j, position), lambda j: slopes[:, j])


def by_source(
    clean: Clean, layer: int, head: int, position: int | None, u: Float[Tensor, "pos d_model"], whole: Tensor
) -> Block:
    """What a head wrote; of an average, ``whole``, in one: what it reads where is a text's."""
    component, pattern = Component("head", layer, head), exact(clean.pattern(layer)[head])
    w = u @ exact(clean.model.W_O(layer)[head]).T
    if position is None:
        part = Node("head", layer, head, None)
        return Block(component, whole, lambda _: part, lambda _: pattern.T @ w)
    attention = pattern[position, : position + 1]
    read = clean.values(layer, head)[: position + 1] @ w[0]
    shares = attention * (read - mean_write(clean, layer, head) @ u[0])
    return Block(component, shares, lambda s: Node("head", layer, head, position, s), lambda s: attention[s] * w)


def mean_write(clean: Clean, layer: int, head: int) -> Float[Tensor, " d_model"]:
    return clean.means.writes[clean.means.components.index(Component("head", layer, head))]


def written(clean: Clean, source: Node) -> Float[Tensor, "pos d_model"]:
    """What a part wrote, less its mean, where it is read."""
    at = clean.everywhere if source.position is None else (source.position,)
    if source.kind == "neuron":
        by = clean.neurons(source.layer)[list(at), source.index] - clean.mean_neurons(source.layer)[source.index]
        return by[:, None] * exact(clean.model.W_out(source.layer)[source.index])
    if source.kind == "head" and source.source is not None:
        attention = exact(clean.pattern(source.layer)[source.index, at[0], source.source])
        wrote = clean.values(source.layer, source.index)[source.source] @ exact(
            clean.model.W_O(source.layer)[source.index]
        )
        return (attention * (wrote - mean_write(clean, source.layer, source.index)))[None]
    whole = clean.changes(at)[clean.means.components.index(source.component)]
    for part in source.parts_left_out:
        whole = whole - written(clean, part)
    return whole
