"""What a circuit is made of: nodes, edges, and what was drawn of each node's parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from analysis.components import Component
from analysis.ranks import spearman


@dataclass(frozen=True, slots=True)
class Node:
    """A neuron or what was embedded at ``position``, or a head there reading at ``source``; a whole head (no source) or
    MLP as a root, or as the rest of a block whose parts ``without`` (sources, neurons) stand singly. Averaged over a
    text, all positions at once (None), and heads by no source."""

    kind: Literal["neuron", "head", "mlp", "embedding", "position", "biases"]
    layer: int
    index: int
    position: int | None
    source: int | None = None
    without: tuple[int, ...] = ()

    @property
    def component(self) -> Component:
        """What wrote it; a neuron's MLP."""
        if self.layer < 0:
            return Component(self.kind)  # type: ignore[arg-type]
        return Component("head", self.layer, self.index) if self.kind == "head" else Component("mlp", self.layer)

    @property
    def name(self) -> str:
        if self.kind == "neuron":
            return f"{self.layer}.{self.index}"
        return f"rest of {self.component.name}" if self.without else self.component.name

    @property
    def depth(self) -> tuple[int, int]:
        """Layer, and whether it writes behind the attention."""
        return (self.layer, int(self.kind != "head")) if self.kind in ("neuron", "head", "mlp") else (-1, 0)

    @property
    def whole(self) -> bool:
        """Whether its parts are what it wrote itself, by source or neuron."""
        return self.kind == "mlp" or (self.kind == "head" and self.source is None and self.position is not None)

    @property
    def parts_left_out(self) -> Iterator[Node]:
        """Those that stand singly beside it."""
        for i in self.without:
            if self.kind == "head":
                yield Node("head", self.layer, self.index, self.position, i)
            else:
                yield Node("neuron", self.layer, i, self.position)


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
    parts' sum. remainder: flow less the sum of all parts. cut: whether the limit of parts, not their mass, ended it."""

    node: Node
    flow: float
    kept: float
    drawn: float
    remainder: float
    cut: bool = False


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
    """edges: largest first. followed: the nodes that were split, the root first. left: how many more there were to
    split than the limit of nodes allows."""

    root: Node
    value: float
    baseline: float
    edges: tuple[Edge, ...]
    followed: tuple[Followed, ...]
    massive: tuple[Massive, ...]
    sinks: tuple[Sink, ...]
    left: int = 0

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of the shares and the patched passes; None before a check, or with fewer than two edges."""
        pairs = self._checked
        return spearman(*torch.tensor(pairs).double().T.numpy()) if len(pairs) > 1 else None

    @property
    def disagreement(self) -> float | None:
        """The sum of |share - patched| as a part of the sum of |patched|; None before a check."""
        size = sum(abs(patched) for _, patched in self._checked)
        return sum(abs(share - patched) for share, patched in self._checked) / size if size else None

    @property
    def unexplained(self) -> float:
        """Of the root's difference from its mean, what no edge into it has."""
        return self.value - self.baseline - sum(edge.share for edge in self.edges if edge.target == self.root)

    @property
    def _checked(self) -> list[tuple[float, float]]:
        return [(edge.share, edge.patched) for edge in self.edges if edge.patched is not None]


Part = tuple[Node, float, Tensor | None]
"""What was written, its share, and its weight (of a neuron's activation, or of a head's value at its source) at the
positions where it reads; none where it is the rest of a block, which is not followed."""
