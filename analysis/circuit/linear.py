"""The clean run of a prompt, and the exact linear parts of what a node of a circuit reads in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.circuit.nodes import Node, Part
from analysis.components import Component, MeanWrites, Terms, names, terms, writes
from analysis.effects.clean import exact
from analysis.model import Model
from analysis.types import UnsupportedModelError


@dataclass(eq=False)
class Clean:
    """A prompt run once for circuits: `read` makes it."""

    model: Model
    token_ids: tuple[int, ...]
    means: MeanWrites
    terms: Terms
    streams: dict[str, Tensor]
    _changes: dict[int, Tensor] = field(default_factory=dict)

    def changes(self, position: int) -> Float[Tensor, "component d_model"]:
        """c - c0 of every component."""
        if position not in self._changes:
            at = {name: value[position] for name, value in self.terms.items()}
            wrote = writes(self.model, at, positions=self.means.positions)
            self._changes[position] = wrote - self.means.writes
        return self._changes[position]

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
def read(model: Model, token_ids: Sequence[int], means: MeanWrites) -> Clean:
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
    return Clean(model, tuple(token_ids), means, whole, {name: captured[name] for name in more})


def direction(clean: Clean, node: Node, weight: Tensor) -> Float[Tensor, " d_model"]:
    """What of the stream that a node reads counts, in the root's activation. weight: of its activation, or value."""
    model = clean.model
    x = stream(clean, node)
    if node.kind == "head":
        return _through(model, x, exact(model.W_V(node.layer)[node.index]) @ weight, model.attention_norm(node.layer))
    change = _before(clean, node)[0].sum(0)
    norm, column = model.mlp_norm(node.layer), exact(model.W_in(node.layer)[:, node.index])
    read_in = _through(model, x, column, norm)
    pre, gate = inputs(clean, node, x)
    f = model.activation(node.layer)
    if (gates := model.W_gate(node.layer)) is None or gate is None:
        return weight * _secant(f, pre, read_in @ change) * read_in
    read_gate = _through(model, x, exact(gates[:, node.index]), norm)
    moved, opened = read_in @ change, read_gate @ change
    up = _secant(f, gate, opened) * (pre - moved / 2) * read_gate
    return weight * (up + (f(gate) + f(gate - opened)) / 2 * read_in)


def _secant(f: Callable[[Tensor], Tensor], end: Tensor, change: Tensor) -> Tensor:
    """The slope of f between end - change and end; at end where they are the same."""
    small = change.abs() < 1e-6
    step = torch.where(small, torch.full_like(change, 1e-4), change)
    start = torch.where(small, end - step / 2, end - step)
    return (f(start + step) - f(start)) / step


Norm = tuple[Tensor | None, Tensor | None]


def centred_and_scale(model: Model, x: Float[Tensor, " d_model"]) -> tuple[Tensor, Tensor]:
    """Centred where the norm does, and s."""
    xc = x - x.mean() if model.norm == "LN" else x
    return xc, (xc.square().mean() + model.eps).sqrt()


def _through(model: Model, x: Float[Tensor, " d_model"], read: Float[Tensor, " d_model"], norm: Norm) -> Tensor:
    """The direction of the stream x that ``read`` sees behind a norm whose scale is held."""
    u = (read if norm[0] is None else exact(norm[0]) * read) / centred_and_scale(model, x)[1]
    return u - u.mean() if model.norm == "LN" else u


def normed(model: Model, x: Float[Tensor, " d_model"], norm: Norm) -> Tensor:
    xc, s = centred_and_scale(model, x)
    y = xc / s if norm[0] is None else exact(norm[0]) * xc / s
    return y if norm[1] is None else y + exact(norm[1])


def inputs(clean: Clean, node: Node, x: Float[Tensor, " d_model"]) -> tuple[Tensor, Tensor | None]:
    """A neuron's input from the stream x, and its gate's."""
    model = clean.model
    y = normed(model, x, model.mlp_norm(node.layer))
    pre = y @ exact(model.W_in(node.layer)[:, node.index])
    if (bias := model.mlp_bias(node.layer, "b_in")) is not None:
        pre = pre + exact(bias[node.index])
    gates = model.W_gate(node.layer)
    return pre, None if gates is None else y @ exact(gates[:, node.index])


def _before(clean: Clean, node: Node) -> tuple[Float[Tensor, "component d_model"], list[Component]]:
    """c - c0 of all that a node reads, where it reads."""
    at = node.position if node.source is None else node.source
    reads_attention = node.kind == "neuron" and not clean.model.parallel

    def read_by(component: Component) -> bool:
        if component.layer is None:
            return True
        return component.layer < node.layer or (
            component.layer == node.layer and component.kind == "head" and reads_attention
        )

    rows = [i for i, component in enumerate(clean.means.components) if read_by(component)]
    return clean.changes(at)[rows], [clean.means.components[i] for i in rows]


def stream(clean: Clean, node: Node) -> Float[Tensor, " d_model"]:
    """What a node reads, before the norm."""
    at = node.position if node.source is None else node.source
    x = clean.terms["embed"][at] + clean.terms["pos"][at]
    for layer in range(node.layer):
        x = x + clean.terms[f"attention.{layer}"][at] + clean.terms[f"mlp.{layer}"][at]
    reads_attention = node.kind == "neuron" and not clean.model.parallel
    return x + clean.terms[f"attention.{node.layer}"][at] if reads_attention else x


def parts_read(clean: Clean, node: Node, u: Float[Tensor, " d_model"]) -> Iterator[Part]:
    """All that a node reads, heads by source, MLPs by neuron."""
    at = node.position if node.source is None else node.source
    changes, components = _before(clean, node)
    for change, component in zip(changes, components, strict=True):
        share = float(change @ u)
        match component.kind, component.layer, component.index:
            case "head", int(layer), int(head):
                yield from by_source(clean, layer, head, at, u)
            case "mlp", int(layer), _:
                yield from by_neuron(clean, layer, at, u)
            case ("embedding" | "position" | "biases") as kind, _, _:
                yield Node(kind, -1, 0, at), share, u


def by_neuron(clean: Clean, layer: int, at: int, u: Float[Tensor, " d_model"]) -> Iterator[Part]:
    slopes = exact(clean.model.W_out(layer)) @ u
    shares = (clean.neurons(layer)[at] - clean.mean_neurons(layer)) * slopes
    for j, one in enumerate(shares.tolist()):
        yield Node("neuron", layer, j, at), one, slopes[j]


def by_source(clean: Clean, layer: int, head: int, at: int, u: Float[Tensor, " d_model"]) -> Iterator[Part]:
    w = exact(clean.model.W_O(layer)[head]) @ u
    mean = float(mean_write(clean, layer, head) @ u)
    attention = exact(clean.pattern(layer)[head, at])
    read = clean.values(layer, head) @ w
    for s, weight in enumerate(attention.tolist()[: at + 1]):
        yield Node("head", layer, head, at, s), weight * (float(read[s]) - mean), weight * w


def mean_write(clean: Clean, layer: int, head: int) -> Float[Tensor, " d_model"]:
    return clean.means.writes[clean.means.components.index(Component("head", layer, head))]


def written(clean: Clean, source: Node) -> Float[Tensor, " d_model"]:
    """What a part wrote, less its mean."""
    at = source.position
    if source.kind == "neuron":
        by = clean.neurons(source.layer)[at, source.index] - clean.mean_neurons(source.layer)[source.index]
        return by * exact(clean.model.W_out(source.layer)[source.index])
    if source.kind == "head":
        assert source.source is not None
        attention = exact(clean.pattern(source.layer)[source.index, at, source.source])
        wrote = clean.values(source.layer, source.index)[source.source] @ exact(
            clean.model.W_O(source.layer)[source.index]
        )
        return attention * (wrote - mean_write(clean, source.layer, source.index))
    return clean.changes(at)[clean.means.components.index(Component(source.kind))]
