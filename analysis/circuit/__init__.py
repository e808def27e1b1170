"""What drives a neuron: followed back from its activation at one token over several hops, through exact linear parts.

With the attention patterns and the norms' scales of the clean run held, everything that a block reads is linear in what
was written before it. Against the mean c0 of each write over a text,

    share of c in a neuron's input = u·(c - c0),   u = C (gain * W_in) / s            (c: embedding, a head, a neuron)
    a head's write at t, by source:  A(t, s) (v(s) W_O - c0),   sum over s = the head's c - c0, for sum over s of A = 1
    a head's value at s, further up: u = C (gain * W_V w) / s,  w the direction of its value that counts

and what a block writes is split by neuron. Through the activation function f goes the secant between the neuron's
input and its input from the mean stream (the rescale rule of DeepLIFT, Shrikumar et al. 2017), through a gate the
product rule in its middle, so that shares sum exactly to what is left after the remainder, which is told: what the mean
of an activation is beside the activation of the mean. Shares are in the activation of the neuron that one began with.
Where paths meet, their directions add before they are followed further. Given the mean gradient of a prediction's
entropy (`analysis.decompose`), the same follows a head's, an MLP's or a neuron's share of it, in nats.

Every edge can be checked by a real pass (`check`): its part is taken out of its target's input alone, that norm and
activation computed anew, and everything behind runs as it will. Models with a norm behind a block are refused.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.circuit import linear
from analysis.circuit.linear import Clean, read
from analysis.circuit.nodes import Circuit, Edge, Followed, Massive, Node, Part, Sink
from analysis.components import Component
from analysis.effects.clean import exact
from analysis.model import Model
from analysis.types import InputError, NeuronId, NotFoundError

__all__ = ["Circuit", "Clean", "Edge", "Followed", "Massive", "Node", "Sink", "check", "circuit", "read"]

MASS = 0.9
"""A node's parts are drawn, largest first, until they have so much of the sum of all sizes."""


BATCH = 16  # edges checked in one pass


MASSIVE = 0.1  # of s²: a dimension that has more is named


SINK = 0.3  # of attention on average over a layer's heads: a source that gets more is named


@torch.inference_mode()
def circuit(
    clean: Clean,
    of: NeuronId | Component,
    position: int,
    *,
    along: Float[Tensor, " d_model"] | None = None,
    hops: int = 3,
    width: int = 8,
    most: int = 24,
) -> Circuit:
    """Back from a neuron's activation at ``position``; ``along`` a direction of the stream, from its write, or a head's
    or MLP's. hops: how far. width: parts drawn of a node at most. most: nodes split."""
    model = clean.model
    if not 0 <= position < len(clean.token_ids):
        raise InputError(
            f"Position {position} is not in the text.",
            code="position_out_of_range",
            hint=f"Positions run from 0 to {len(clean.token_ids) - 1}.",
        )
    root = _root(model, of, position, along)
    weight = _root_weight(clean, root, along)
    value, mean = _measured(clean, root, weight)
    weights: dict[Node, Tensor] = {root: weight}
    flows, hop, edges, followed = {root: value - mean}, {root: 0}, [], []
    waiting, listed = [((-root.layer, -1), 0, root)], {root}
    for number in range(1, most + 1):
        if not waiting:
            break
        _, _, node = heapq.heappop(waiting)
        if node.whole:
            parts = list(_written_by(clean, node, weights[node]))
        else:
            parts = list(linear.parts_read(clean, node, linear.direction(clean, node, weights[node])))
        total, size = sum(share for _, share, _ in parts), sum(abs(share) for _, share, _ in parts)
        drawn = _largest(parts, size, width)
        followed.append(
            Followed(
                node,
                flows[node],
                sum((abs(share) for _, share, _ in drawn), 0.0) / size if size else 1.0,
                sum((share for _, share, _ in drawn), 0.0),
                flows[node] - total,
            )
        )
        for place, (source, share, weight) in enumerate(drawn):
            edges.append(Edge(source, node, share))
            layer, kind = source.depth
            if source not in listed and layer >= 0 and hop[node] + 1 < hops:
                listed.add(source)
                heapq.heappush(waiting, ((-layer, -kind), number * width + place, source))
            hop[source] = min(hop.get(source, hops), hop[node] + 1)
            flows[source] = flows.get(source, 0.0) + share
            weights[source] = weights[source] + weight if source in weights else weight
    return Circuit(
        root,
        value,
        mean,
        tuple(sorted(edges, key=lambda edge: -abs(edge.share))),
        tuple(followed),
        tuple(_massive(clean, root)),
        tuple(_sinks(clean, root)),
    )


def _root(model: Model, of: NeuronId | Component, position: int, along: Tensor | None) -> Node:
    """NotFoundError for what the model has not; InputError for what has no parts."""
    if isinstance(of, NeuronId):
        model.check_neuron(of)
        return Node("neuron", of.layer, of.index, position)
    if of.kind not in ("head", "mlp") or of.layer is None or along is None:
        raise InputError(
            f"Nothing is followed back from {of.name}.",
            code="no_circuit",
            hint="A neuron has one, such as 3.62; of a prediction's entropy a head or an MLP too.",
        )
    if not (0 <= of.layer < model.n_layers and (of.index or 0) < model.n_heads):
        raise NotFoundError(f"There is no {of.name}.", hint=f"{model.key} has {model.n_layers} layers.")
    return Node("head" if of.kind == "head" else "mlp", of.layer, of.index or 0, position)


def _root_weight(clean: Clean, root: Node, along: Tensor | None) -> Tensor:
    if root.whole:
        assert along is not None
        return along
    if along is None:
        return torch.ones((), dtype=torch.float64)
    return exact(clean.model.W_out(root.layer)[root.index]) @ along


def _measured(clean: Clean, root: Node, weight: Tensor) -> tuple[float, float]:
    """What is followed back, clean and on average over the text of the means."""
    if root.kind == "head":
        share = clean.changes(root.position)[clean.means.components.index(Component("head", root.layer, root.index))]
        mean = linear.mean_write(clean, root.layer, root.index) @ weight
        return float(share @ weight + mean), float(mean)
    slopes = _slopes(clean, root, weight)
    return (
        float(clean.neurons(root.layer)[root.position] @ slopes),
        float(clean.mean_neurons(root.layer) @ slopes),
    )


def _slopes(clean: Clean, root: Node, weight: Tensor) -> Float[Tensor, " d_mlp"]:
    """What each neuron of its MLP counts in a root that is one of them, or all."""
    if root.kind == "mlp":
        return exact(clean.model.W_out(root.layer)) @ weight
    slopes = torch.zeros(clean.model.d_mlp, dtype=torch.float64, device=weight.device)
    slopes[root.index] = weight
    return slopes


def _written_by(clean: Clean, root: Node, along: Float[Tensor, " d_model"]) -> Iterator[Part]:
    """What a whole head or MLP wrote, by source or neuron."""
    if root.kind == "head":
        yield from linear.by_source(clean, root.layer, root.index, root.position, along)
    else:
        yield from linear.by_neuron(clean, root.layer, root.position, along)


@torch.inference_mode()
def check(clean: Clean, drawn: Circuit, along: Float[Tensor, " d_model"] | None = None) -> Iterator[Circuit]:
    """The circuit with ever more of its edges checked; the last one wholly. along: as it was drawn."""
    model, root = clean.model, drawn.root
    weight = _root_weight(clean, root, along)
    site = f"blocks.{root.layer}.{'attn.hook_z' if root.kind == 'head' else 'mlp.hook_post'}"
    edges = list(drawn.edges)
    passes = [i for i, edge in enumerate(edges) if edge.target != root]
    with torch.inference_mode():
        if root.kind == "head":
            read = exact(model.W_O(root.layer)[root.index]) @ weight
        else:
            read = _slopes(clean, root, weight)
        for i, edge in enumerate(edges):
            if edge.target == root:
                patched = edge.share if root.whole else -float(_moved(clean, edge) * weight)
                edges[i] = replace(edge, patched=patched)
    for start in range(0, len(passes), BATCH):
        some = passes[start : start + BATCH]
        with torch.inference_mode():
            hooks = [_patch(row, edges[i].target, _moved(clean, edges[i])) for row, i in enumerate(some)]
            tokens = model.tokens(clean.token_ids[: root.position + 1]).expand(len(some), -1)
            seen = exact(model.run(tokens, capture=[site], hooks=hooks)[site][:, root.position])
            after = (seen[:, root.index] if root.kind == "head" else seen) @ read
        for i, now in zip(some, after.tolist(), strict=True):
            edges[i] = replace(edges[i], patched=drawn.value - now)
        yield replace(drawn, edges=tuple(edges))
    yield replace(drawn, edges=tuple(edges))


def _largest(parts: Sequence[Part], size: float, width: int) -> list[Part]:
    """The fewest that have `MASS` of the size, ``width`` at most."""
    drawn, so_far = [], 0.0
    for part in heapq.nlargest(width, parts, key=lambda part: abs(part[1])):
        if so_far >= MASS * size or part[1] == 0:
            break
        drawn.append(part)
        so_far += abs(part[1])
    return drawn


def _moved(clean: Clean, edge: Edge) -> Tensor:
    """How a target's activation (a head's z) changes without a part of what it reads, norm and activation anew."""
    model, target = clean.model, edge.target
    x = linear.stream(clean, target)
    less = x - linear.written(clean, edge.source)
    if target.kind == "head":
        norm, W_V = model.attention_norm(target.layer), exact(model.W_V(target.layer)[target.index])
        attention = exact(clean.pattern(target.layer)[target.index, target.position, target.source])
        return attention * ((linear.normed(model, less, norm) - linear.normed(model, x, norm)) @ W_V)
    f, ends = model.activation(target.layer), []
    for stream in (less, x):
        pre, gate = linear.inputs(clean, target, stream)
        ends.append(f(pre) if gate is None else f(gate) * pre)
    return ends[0] - ends[1]


def _patch(row: int, target: Node, change: Tensor) -> tuple[str, Callable[[Tensor], Tensor]]:
    head = target.kind == "head"

    def hook(value: Tensor) -> Tensor:
        new = value.clone()
        new[row, target.position, target.index] += change.to(new)
        return new

    return f"blocks.{target.layer}.{'attn.hook_z' if head else 'mlp.hook_post'}", hook


def _massive(clean: Clean, root: Node) -> Iterator[Massive]:
    """Dimensions with much of s² where the root reads, at its token and at the first."""
    for at in sorted({0, root.position}):
        xc, s = linear.centred_and_scale(clean.model, linear.stream(clean, replace(root, position=at)))
        shares = xc.square() / (clean.model.d_model * s.square())
        for dimension in (shares > MASSIVE).nonzero()[:, 0].tolist():
            yield Massive(at, dimension, float(xc[dimension]), float(shares[dimension]))


def _sinks(clean: Clean, root: Node) -> Iterator[Sink]:
    """Sources other than the token itself that a layer reads more than `SINK` on average over its heads."""
    for layer in range(root.layer + (not clean.model.parallel)):
        attention = exact(clean.pattern(layer)[:, root.position]).mean(0)
        for source in (attention > SINK).nonzero()[:, 0].tolist():
            if source != root.position:
                yield Sink(layer, source, float(attention[source]))
