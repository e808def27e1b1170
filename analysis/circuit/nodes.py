"""What a circuit is made of: nodes, edges, and what was drawn of each node's parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from analysis.components import Component
from analysis.ranks import spearman


@dataclass(frozen=True, slots=True)
class Node:
    """A neuron or what was embedded at ``position``, or a head there reading at ``source``; as a root also a whole head
    (no source) or MLP."""

    kind: Literal["neuron", "head", "mlp", "embedding", "position", "biases"]
    layer: int
    index: int
    position: int
    source: int | None = None

    @property
    def name(self) -> str:
        if self.kind == "neuron":
            return f"{self.layer}.{self.index}"
        return Component(self.kind, self.layer, self.index).name

    @property
    def depth(self) -> tuple[int, int]:
        """Layer, and whether it writes behind the attention."""
        return (self.layer, int(self.kind != "head")) if self.kind in ("neuron", "head", "mlp") else (-1, 0)

    @property
    def whole(self) -> bool:
        """Whether its parts are what it wrote itself, by source or neuron."""
        return self.kind == "mlp" or (self.kind == "head" and self.source is None)


@dataclass(frozen=True, slots=True)
class Edge:
    """share: what ``source`` brings to the root's activation by way of ``target``. patched: by a real pass."""

    source: Node
    target: Node
    share: float
    patched: float | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """How a node was split. flow: its own share. kept: of the sum of its parts' sizes, what is drawn. drawn: the drawn
    parts' sum. remainder: flow less the sum of all parts."""

    node: Node
    flow: float
    kept: float
    drawn: float
    remainder: float


@dataclass(frozen=True, slots=True)
class Massive:
    """A dimension with much of the squared scale of the norm behind which the root reads."""

    position: int
    dimension: int
    value: float
    share: float


@dataclass(frozen=True, slots=True)
class Sink:
    """A source that a layer's heads read more than others at the root's token."""

    layer: int
    source: int
    attention: float


@dataclass(frozen=True, slots=True)
class Circuit:
    """edges: largest first. followed: the nodes that were split, the root first."""

    root: Node
    value: float
    baseline: float
    edges: tuple[Edge, ...]
    followed: tuple[Followed, ...]
    massive: tuple[Massive, ...]
    sinks: tuple[Sink, ...]

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of the shares and the patched passes; None before a check, or with fewer than two edges."""
        pairs = [(edge.share, edge.patched) for edge in self.edges if edge.patched is not None]
        return spearman(*torch.tensor(pairs).double().T.numpy()) if len(pairs) > 1 else None


Part = tuple[Node, float, Tensor]
"""What was written, its share, and its weight: of a neuron's activation, or of a head's value at its source."""
