"""What drives a neuron or a share, drawn: nodes by depth upwards and token, edges by share and sign."""

import plotly.graph_objects as go

from analysis.grammar import printed
from app.core import theme
from app.why.view import CircuitView, EdgeView, NodeView

EDGES = 48  # drawn: the largest that hang together
SLOT, STEP, LEVELS = 16, 54, 3
"""Pixels that a node has in its row, and a depth upwards. Names are up to 46 pixels wide: neighbours stand on so many
heights in turn, so that those on one height are further apart than that."""
ALONE = 0.5  # of a step: a depth at which no two nodes stand side by side


def circuit(view: CircuitView) -> go.Figure:
    """Nodes by depth upwards and token; an edge's width is its share, its colour the sign."""
    edges = _hanging_together(view)
    listed = sorted({0, *(end for edge in edges for end in (edge.source, edge.target))})
    depths = sorted({_depth(view.nodes[i]) for i in listed})
    columns = _columns(view, listed)
    heights = _heights(view, listed, depths)
    places = _places(view, listed, columns, heights)
    wide = max(start + slots for start, slots in columns.values())
    figure = theme.chart(
        *_edges(view, edges, places),
        _nodes(view, listed, places),
        x=theme.axis(
            "Token",
            tickvals=[start + (slots - 1) / 2 for start, slots in columns.values()],
            ticktext=[
                "all tokens" if at is None else f"{at} {theme.label(view.tokens[at].text, 12)}" for at in columns
            ],
            range=[-1.5, wide + 0.5],
            showgrid=False,
        ),
        y=theme.axis(
            "",
            tickvals=list(heights.values()),
            ticktext=[
                "embedding" if depth < 0 else f"{'MLP' if depth % 1 else 'attention'} {int(depth)}" for depth in depths
            ],
        ),
        height=round(160 + STEP * (1 + max(heights.values()))),
    )
    figure.update_layout(meta={"least": 110 + SLOT * wide})
    return figure


def _edges(view: CircuitView, edges: list[EdgeView], places: dict[int, tuple[float, float]]) -> list[go.Scatter]:
    """A line each, as wide as its share."""
    most = max((abs(edge.share) for edge in edges), default=1.0) or 1.0
    lines = []
    for edge in edges:
        (x0, y0), (x1, y1) = places[edge.source], places[edge.target]
        lines.append(
            go.Scatter(
                x=[x0, (x0 + x1) / 2, x1],
                y=[y0, (y0 + y1) / 2, y1],
                mode="lines",
                line={"width": 1 + 7 * abs(edge.share) / most, "color": theme.UP if edge.share > 0 else theme.DOWN},
                opacity=0.65,
                hovertemplate=f"{_node_name(view, edge.source)} → {_node_name(view, edge.target)}: "
                + printed(edge.share, "+.4f")
                + (f", patched {printed(edge.patched, '+.4f')}" if edge.patched is not None else "")
                + "<extra></extra>",
                showlegend=False,
            )
        )
    return lines


def _nodes(view: CircuitView, listed: list[int], places: dict[int, tuple[float, float]]) -> go.Scatter:
    """Marks with their components' names; a rest is open and has none."""
    return go.Scatter(
        x=[places[i][0] for i in listed],
        y=[places[i][1] for i in listed],
        mode="markers+text",
        text=["" if view.nodes[i].without else view.nodes[i].component for i in listed],
        textposition="top center",
        textfont={"size": 10},
        hovertext=[_node_name(view, i) for i in listed],
        hovertemplate="%{hovertext}<extra></extra>",
        marker={
            "color": theme.MARK,
            "size": [13 if i == 0 else 8 for i in listed],
            "symbol": ["circle-open" if view.nodes[i].without else "circle" for i in listed],
        },
        cliponaxis=False,
        showlegend=False,
    )


def _hanging_together(view: CircuitView) -> list[EdgeView]:
    """The largest edges whose targets are reached from the root by such edges."""
    reached, drawn, left = {0}, list[EdgeView](), list(view.edges)
    while len(drawn) < EDGES and (edge := next((e for e in left if e.target in reached), None)) is not None:
        left.remove(edge)
        drawn.append(edge)
        reached.add(edge.source)
    return drawn


def _depth(node: NodeView) -> float:
    if node.layer is None:
        return -1.0
    return node.layer + (0.0 if node.kind == "head" else 0.5)


def _places(
    view: CircuitView, listed: list[int], columns: dict[int | None, tuple[int, int]], heights: dict[float, float]
) -> dict[int, tuple[float, float]]:
    """Nodes of one token and depth stand side by side in the middle of their column, on `LEVELS` heights in turn."""
    places = {}
    for (token, depth), cell in _cells(view, listed).items():
        start, slots = columns[token]
        for place, i in enumerate(cell):
            level = place % LEVELS / LEVELS if len(cell) > 1 else 0.0
            places[i] = (start + (slots - len(cell)) / 2 + place, heights[depth] + level)
    return places


def _heights(view: CircuitView, listed: list[int], depths: list[float]) -> dict[float, float]:
    """Where each depth stands: a whole step above the one below where nodes stand side by side there, else less."""
    crowded = {depth for (_, depth), cell in _cells(view, listed).items() if len(cell) > 1}
    found, height = {}, 0.0
    for depth in depths:
        found[depth] = height
        height += 1.0 if depth in crowded else ALONE
    return found


def _columns(view: CircuitView, listed: list[int]) -> dict[int | None, tuple[int, int]]:
    """First slot and slots of each token with nodes, in their order; of an average the one column of all."""
    most: dict[int | None, int] = {}
    for (token, _), cell in _cells(view, listed).items():
        most[token] = max(most.get(token, LEVELS), len(cell))
    found, start = {}, 0
    for token in sorted(most, key=lambda at: -1 if at is None else at):
        found[token] = (start, most[token])
        start += most[token] + LEVELS - 1
    return found


def _cells(view: CircuitView, listed: list[int]) -> dict[tuple[int | None, float], list[int]]:
    """The nodes of each token and depth."""
    cells: dict[tuple[int | None, float], list[int]] = {}
    for i in listed:
        cells.setdefault((view.nodes[i].position, _depth(view.nodes[i])), []).append(i)
    return cells


def _node_name(view: CircuitView, index: int) -> str:
    node = view.nodes[index]
    at = "" if node.position is None else f" at {node.position} {theme.label(view.tokens[node.position].text, 12)}"
    reads = "" if node.source is None else f" reading {node.source} {theme.label(view.tokens[node.source].text, 12)}"
    return f"{node.component}{at}{reads}"
