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

How much is drawn, mass decides. A node's mass is the sum of the sizes of what each block brings it; a source or neuron
that alone has `SINGLE` of it stands singly, the rest of its block is one part, and of these the largest are drawn until
they have `MASS` of all. What stands singly and has `SINGLE` of the root's mass is split in turn. (Thousands of neurons
that nearly cancel make up most of the sum of *all* sizes: 90 % of that are 1,006 of 2,723 parts of the bundled model's
3.62.) Limits of parts and nodes guard against what would take too long, and where they cut, it is told.

Over a text instead of at one token (position None): the mean over its tokens but a sink. Every sum above is linear, so
a node is then a neuron or head at all tokens at once, and the shares are exact means.

Every edge can be checked by a real pass (`check`): its part is taken out of its target's input alone, that norm and
activation computed anew, and everything behind runs as it will; over a text at all tokens in one pass. Models with a
norm behind a block are refused.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.circuit import linear
from analysis.circuit.linear import Block, Clean, read
from analysis.circuit.nodes import Circuit, Edge, Followed, Massive, Node, Part, Sink
from analysis.components import Component, rows_at_once
from analysis.effects.clean import exact
from analysis.model import Model
from analysis.types import InputError, NeuronId, NotFoundError, check_position

__all__ = [
    "NODES",
    "WIDTH",
    "Circuit",
    "Clean",
    "Edge",
    "Followed",
    "Massive",
    "Node",
    "Sink",
    "check",
    "circuit",
    "read",
]

MASS = 0.9
"""A node's parts are drawn, largest first, until they have so much of its mass."""

SINGLE = 0.02
"""Of a node's mass: what has as much stands singly. Of the root's: what has as much is split itself."""

WIDTH, NODES = 200, 24
"""The limits where none are asked for: parts drawn of a node, nodes split."""
ROUNDING = 1e-12  # of the root: less is what sums in float64 round, when all that is read is its mean
MASSIVE = 0.1  # of s²: a dimension that has more is named
SINK = 0.3  # of attention on average over a layer's heads: a source that gets more is named


@torch.inference_mode()
def circuit(
    clean: Clean,
    of: NeuronId | Component,
    position: int | None,
    *,
    along: Float[Tensor, " d_model"] | None = None,
    hops: int = 3,
    width: int = WIDTH,
    most: int = NODES,
) -> Circuit:
    """Back from a neuron's activation at ``position``, or its mean over the text (None); ``along`` a direction of the
    stream, from its write there, or a head's or MLP's. hops: how far. width, most: the limits of parts and nodes."""
    if position is not None:
        check_position(position, len(clean.token_ids))
    root = check_root(clean.model, of, position, of_prediction=along is not None)
    weight = _root_weight(clean, root, along)
    value, mean = _measured(clean, root, weight)
    weights: dict[Node, Tensor] = {root: weight}
    flows, hop, edges, followed = {root: value - mean}, {root: 0}, list[Edge](), list[Followed]()
    waiting, listed, left, least = [((-root.layer, -1), 0, root)], {root}, 0, 0.0
    while waiting:
        _, _, node = heapq.heappop(waiting)
        if node != root and abs(flows[node]) < least:
            continue
        if len(followed) == most:
            left += 1
            continue
        parts, total, mass = _parts(_blocks(clean, node, weights[node]))
        if node == root:
            least = SINGLE * mass
            parts = parts if mass > ROUNDING * max(abs(value), abs(mean)) else []
        drawn, kept = _largest(parts, width)
        cut = len(drawn) == width and kept < MASS
        drawn_sum = sum((share for _, share, _ in drawn), 0.0)
        followed.append(Followed(node, flows[node], kept, drawn_sum, flows[node] - total, cut))
        for source, share, weight_of in drawn:
            edges.append(Edge(source, node, share))
            layer, kind = source.depth
            hop[source] = min(hop.get(source, hops), hop[node] + 1)
            flows[source] = flows.get(source, 0.0) + share
            if weight_of is None:
                continue
            weights[source] = weights[source] + weight_of if source in weights else weight_of
            if source not in listed and layer >= 0 and hop[source] < hops:
                listed.add(source)
                heapq.heappush(waiting, ((-layer, -kind), len(listed), source))
    return Circuit(
        root,
        value,
        mean,
        tuple(sorted(edges, key=lambda edge: -abs(edge.share))),
        tuple(followed),
        tuple(_massive(clean, root)),
        tuple(_sinks(clean, root)),
        left,
    )


def _blocks(clean: Clean, node: Node, weight: Tensor) -> list[Block]:
    """What wrote a node's input; of a whole head or MLP, what it wrote itself."""
    if node.whole:
        return [_written_by(clean, node, weight)]
    return list(linear.blocks_read(clean, node, linear.direction(clean, node, weight)))


def _parts(blocks: Sequence[Block]) -> tuple[list[Part], float, float]:
    """What stands singly and the rests, their sum, and the mass: the sum of the blocks' sizes. One block alone (what a
    head or MLP itself wrote) has its parts' sizes for its mass."""
    sums = [float(block.shares.sum()) for block in blocks]
    mass = sum(map(abs, sums)) if len(blocks) > 1 else float(blocks[0].shares.abs().sum())
    parts: list[Part] = []
    for block, whole in zip(blocks, sums, strict=True):
        large = (block.shares.abs() >= SINGLE * mass).nonzero()[:, 0].tolist() if len(block.shares) > 1 else [0]
        some = [(block.node(i), float(block.shares[i]), block.weight(i)) for i in large]
        parts += some
        if len(large) < len(block.shares):
            of, at = block.component, block.node(0).position
            kind: Literal["head", "mlp"] = "head" if of.kind == "head" else "mlp"
            rest = Node(kind, of.layer or 0, of.index or 0, at, None, tuple(large))
            parts.append((rest, whole - sum(share for _, share, _ in some), None))
    return parts, sum(sums), mass


def check_root(model: Model, of: NeuronId | Component, position: int | None, *, of_prediction: bool) -> Node:
    """What a circuit begins at. NotFoundError for what the model has not; InputError for what has no parts.

    of_prediction: whether its share of a prediction is followed back, not its activation.
    """
    if position is None and (of_prediction or not isinstance(of, NeuronId)):
        raise InputError(
            "Over a text a neuron's activation is followed back.",
            code="no_circuit",
            hint="Ask at one position for a share of a prediction's entropy.",
        )
    if isinstance(of, NeuronId):
        model.check_neuron(of)
        return Node("neuron", of.layer, of.index, position)
    if of.kind not in ("head", "mlp") or of.layer is None or not of_prediction:
        raise InputError(
            f"Nothing is followed back from {of.name}.",
            code="no_circuit",
            hint="A neuron has one, such as 3.62; of a prediction's entropy a head or an MLP too.",
        )
    if not (0 <= of.layer < model.n_layers and (of.index or 0) < model.n_heads):
        raise NotFoundError(
            f"There is no {of.name}.",
            hint=f"Layers run from 0 to {model.n_layers - 1}, heads from 0 to {model.n_heads - 1}.",
        )
    return Node("head" if of.kind == "head" else "mlp", of.layer, of.index or 0, position)


def _root_weight(clean: Clean, root: Node, along: Tensor | None) -> Tensor:
    """Of a whole block a direction of the stream; of a neuron, what its activation counts where it is read."""
    if root.whole:
        assert along is not None
        return along
    if root.position is None:
        weight = torch.ones(len(clean.token_ids), dtype=torch.float64, device=clean.model.device)
        weight[: clean.skip] = 0
        return weight / weight.sum().clamp(min=1)
    if along is None:
        return torch.ones(1, dtype=torch.float64, device=clean.model.device)
    return (exact(clean.model.W_out(root.layer)[root.index]) @ along)[None]


def _measured(clean: Clean, root: Node, weight: Tensor) -> tuple[float, float]:
    """What is followed back, clean and on average over the text of the means."""
    at = linear.where(clean, root)
    if root.kind == "head":
        share = clean.changes(at)[clean.means.components.index(root.component), 0]
        mean = linear.mean_write(clean, root.layer, root.index) @ weight
        return float(share @ weight + mean), float(mean)
    slopes = _slopes(clean, root, weight)
    return (
        float((clean.neurons(root.layer)[list(at)] * slopes).sum()),
        float((clean.mean_neurons(root.layer) * slopes).sum()),
    )


def _slopes(clean: Clean, root: Node, weight: Tensor) -> Float[Tensor, "pos d_mlp"]:
    """What each neuron of its MLP counts in a root that is one of them, or all."""
    if root.kind == "mlp":
        return (exact(clean.model.W_out(root.layer)) @ weight)[None]
    slopes = torch.zeros(len(weight), clean.model.d_mlp, dtype=torch.float64, device=weight.device)
    slopes[:, root.index] = weight
    return slopes


def _written_by(clean: Clean, root: Node, along: Float[Tensor, " d_model"]) -> Block:
    """What a whole head or MLP wrote, by source or neuron."""
    assert root.position is not None
    if root.kind == "head":
        return linear.by_source(clean, root.layer, root.index, root.position, along[None], along)
    return linear.by_neuron(clean, root.layer, root.position, along[None])


def check(clean: Clean, drawn: Circuit, along: Float[Tensor, " d_model"] | None = None) -> Iterator[Circuit]:
    """The circuit with ever more of its edges checked; the last one wholly. along: as it was drawn."""
    model, root = clean.model, drawn.root
    site = f"blocks.{root.layer}.{'attn.hook_z' if root.kind == 'head' else 'mlp.hook_post'}"
    edges = list(drawn.edges)
    passes = [i for i, edge in enumerate(edges) if edge.target != root]
    until = len(clean.token_ids) if root.position is None else root.position + 1
    at = list(linear.where(clean, root))
    with torch.inference_mode():
        weight = _root_weight(clean, root, along)
        if root.kind == "head":
            read = (exact(model.W_O(root.layer)[root.index]) @ weight)[None]
        else:
            read = _slopes(clean, root, weight)
        for i, edge in enumerate(edges):
            if edge.target == root:
                patched = edge.share if root.whole else -float(_moved(clean, edge) @ weight)
                edges[i] = replace(edge, patched=patched)
    batch = rows_at_once(until)
    for start in range(0, len(passes), batch):
        some = passes[start : start + batch]
        with torch.inference_mode():
            hooks = [_patch(row, edges[i].target, _moved(clean, edges[i])) for row, i in enumerate(some)]
            tokens = model.tokens(clean.token_ids[:until]).expand(len(some), -1)
            seen = exact(model.run(tokens, capture=[site], hooks=hooks)[site][:, at])
            after = ((seen[:, :, root.index] if root.kind == "head" else seen) * read).sum((1, 2))
        for i, now in zip(some, after.tolist(), strict=True):
            edges[i] = replace(edges[i], patched=drawn.value - now)
        yield replace(drawn, edges=tuple(edges))
    yield replace(drawn, edges=tuple(edges))


def _largest(parts: Sequence[Part], width: int) -> tuple[list[Part], float]:
    """The fewest that have `MASS` of the sum of sizes, ``width`` at most, and what they have of it."""
    size, drawn, so_far = sum(abs(share) for _, share, _ in parts), list[Part](), 0.0
    for part in heapq.nlargest(width, parts, key=lambda part: abs(part[1])):
        if so_far >= MASS * size or part[1] == 0:
            break
        drawn.append(part)
        so_far += abs(part[1])
    return drawn, so_far / size if size else 1.0


def _moved(clean: Clean, edge: Edge) -> Float[Tensor, "pos ..."]:
    """How a target's activation (a head's z) changes without a part of what it reads, norm and activation anew; at its
    position, or of an average at all."""
    model, target = clean.model, edge.target
    x = linear.stream(clean, target)
    less = x - linear.written(clean, edge.source)
    if target.kind == "head":
        norm, W_V = model.attention_norm(target.layer), exact(model.W_V(target.layer)[target.index])
        values = (linear.normed(model, less, norm) - linear.normed(model, x, norm)) @ W_V
        pattern = exact(clean.pattern(target.layer)[target.index])
        return pattern @ values if target.position is None else pattern[target.position, target.source] * values
    f, ends = model.activation(target.layer), []
    for stream in (less, x):
        pre, gate = linear.inputs(clean, target, stream)
        ends.append(f(pre) if gate is None else f(gate) * pre)
    return ends[0] - ends[1]


def _patch(row: int, target: Node, change: Tensor) -> tuple[str, Callable[[Tensor], Tensor]]:
    at = slice(None) if target.position is None else slice(target.position, target.position + 1)

    def hook(value: Tensor) -> Tensor:
        new = value.clone()
        new[row, at, target.index] += change.to(new)
        return new

    return f"blocks.{target.layer}.{'attn.hook_z' if target.kind == 'head' else 'mlp.hook_post'}", hook


def _massive(clean: Clean, root: Node) -> Iterator[Massive]:
    """Dimensions with much of s² where the root reads, at its token (over a text: at the last) and at the first."""
    last = len(clean.token_ids) - 1 if root.position is None else root.position
    for at in sorted({0, last}):
        xc, s = linear.centred_and_scale(clean.model, linear.stream(clean, replace(root, position=at))[0])
        shares = xc.square() / (clean.model.d_model * s.square())
        for dimension in (shares > MASSIVE).nonzero()[:, 0].tolist():
            yield Massive(at, dimension, float(xc[dimension]), float(shares[dimension]))


def _sinks(clean: Clean, root: Node) -> Iterator[Sink]:
    """Sources other than the token itself that a layer reads more than `SINK` on average over its heads (and tokens
    that come after them)."""
    queries = clean.everywhere if root.position is None else (root.position,)
    for layer in range(root.layer + (not clean.model.parallel)):
        read = exact(clean.pattern(layer)[:, list(queries)]).mean(0)
        for source in range(queries[-1]):
            after = read[[row for row, query in enumerate(queries) if query > source], source]
            if len(after) and (attention := float(after.mean())) > SINK:
                yield Sink(layer, source, attention)
