"""Charts of the induction page's panels: heads, a pattern, attribution, heads taken out, natural repeats."""

from typing import Any

import plotly.graph_objects as go

from app.core import theme
from app.core.chart_rows import stacked
from app.induction.view import AttributionView, CurveView, HeadAblationView, HeadsView, NaturalView

MOST_PARTS, MOST_ROWS = 24, 12
OFFSETS = ["A0", "A1", "A2", "A3", "A4", "A5", "B | X"]
ROLES = {"one": "one head", "all": "all together", "random_one": "random head", "random_all": "random set"}


def head_map(view: HeadsView) -> go.Figure:
    """Layer by head, the induction score; a click shows the pattern."""
    scores = [[row.induction for row in view.rows if row.layer == layer] for layer in range(view.n_layers)]
    heat = go.Heatmap(
        z=scores,
        x=list(range(view.n_heads)),
        y=list(range(view.n_layers)),
        customdata=[[f"pattern:{layer}.{head}" for head in range(view.n_heads)] for layer in range(view.n_layers)],
        meta=theme.PRESSES,
        colorscale=theme.SEQUENTIAL,
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": "score"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate="head %{y}.%{x}: %{z:.4f}<extra></extra>",
    )
    return theme.chart(
        heat,
        x=theme.axis("Head", dtick=1, showgrid=False),
        y=theme.axis("Layer", dtick=1, showgrid=False),
        height=min(520, 130 + 34 * view.n_layers),
    )


def pattern(view: HeadsView) -> go.Figure:
    """One head's attention on the first row; the dotted line is where an induction head looks."""
    assert view.pattern is not None
    found = view.pattern
    names = [f"{token.position} {theme.label(token.text, 12)}" for token in found.tokens]
    heat = go.Heatmap(
        z=[[round(value, 4) for value in row] for row in found.attention],
        x=names,
        y=names,
        colorscale=theme.SEQUENTIAL,
        zmin=0,
        zmax=1,
        colorbar={"thickness": 10, "outlinewidth": 0},
        hovertemplate="query %{y}<br>key %{x}<br>%{z:.4f}<extra></extra>",
    )
    second, last = found.starts[1], len(names) - 1
    shift = found.length - 1
    line = {"color": theme.SERIES[1], "width": 1.5, "dash": "dot"}
    looks = {"type": "line", "x0": second - shift, "y0": second, "x1": last - shift, "y1": last, "line": line}
    ticks: dict[str, Any] = {"type": "category", "showgrid": False, "nticks": 14, "tickfont": {"size": 10}}
    return theme.chart(
        heat,
        x=theme.axis("Key", **ticks),
        y=theme.axis("Query", autorange="reversed", **ticks),
        height=460,
        shapes=[looks],
    )


def parts(view: AttributionView) -> go.Figure:
    """What changed from the first copy to the second, by component."""
    rows = view.rows[:MOST_PARTS][::-1]
    bars = go.Bar(
        x=[row.change for row in rows],
        y=[row.component for row in rows],
        orientation="h",
        marker_color=[theme.SERIES[1] if (row.change or 0) > 0 else theme.SERIES[0] for row in rows],
        customdata=[[None, row.first, row.second] for row in rows],
        hovertemplate="%{y}: %{x:+.4f}<br>first copy %{customdata[1]:.4f}, second %{customdata[2]:.4f}<extra></extra>",
    )
    return theme.chart(
        bars,
        x=theme.axis("Change of the contribution, second copy − first", zeroline=True),
        y=theme.axis("", type="category", dtick=1),
        height=90 + 19 * len(rows),
    )


def parts_by_position(view: AttributionView) -> go.Figure:
    """The components that change most, at every position; a line where each copy begins."""
    rows = view.rows[:MOST_ROWS]
    first = view.repeat.starts[0]
    values = [row.by_position[first:] for row in rows]
    limit = theme.symmetric([value for row in values for value in row])
    heat = go.Heatmap(
        z=values,
        x=list(range(first, view.repeat.n_positions)),
        y=[row.component for row in rows],
        colorscale=theme.DIVERGING,
        zmin=-limit,
        zmax=limit,
        colorbar={"title": {"text": "part"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate="%{y} at position %{x}: %{z:+.4f}<extra></extra>",
    )
    line = {"color": theme.MARK, "width": 1, "dash": "dot"}
    marks = [
        {"type": "line", "x0": at - 0.5, "x1": at - 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        for at in view.repeat.starts[1:]
    ]
    return theme.chart(
        heat,
        x=theme.axis("Position", showgrid=False),
        y=theme.axis("", type="category", dtick=1, autorange="reversed", showgrid=False),
        height=90 + 20 * len(rows),
        shapes=marks,
    )


def groups(view: HeadAblationView) -> go.Figure:
    """Mean change of each neuron's activation, by what was taken out; random baselines in grey."""
    traces = []
    for index, neuron in enumerate(view.neurons):
        traces.append(
            go.Scatter(
                x=[row.activation[neuron] for row in view.rows],
                y=[f"{ROLES[row.role]} {' '.join(row.heads)}" for row in view.rows],
                mode="markers",
                name=neuron,
                marker={
                    "size": 11,
                    "symbol": ["diamond" if row.role in ("one", "all") else "circle-open" for row in view.rows],
                    "color": theme.SERIES[index % len(theme.SERIES)],
                },
                hovertemplate="%{y}<br>" + neuron + " %{x:+.4f}<extra></extra>",
            )
        )
    return theme.chart(
        *traces,
        x=theme.axis("Change of activation, ablated − clean", zeroline=True),
        y=theme.axis("", type="category", dtick=1, autorange="reversed"),
        height=110 + 24 * len(view.rows),
        showlegend=len(view.neurons) > 1,
    )


def queries(view: HeadAblationView) -> go.Figure:
    """Activation at each ablated query: clean, without the chosen heads, without random ones."""
    rows = []
    chosen = [row for row in view.rows if row.role == "all"] or view.rows[:1]
    random = [row for row in view.rows if row.role.startswith("random")]
    for neuron in view.neurons:
        clean = view.clean[neuron].mean
        lines = [_line(view.queries, _added(clean, row.by_query[neuron]), "random", theme.QUIET, 1.0) for row in random]
        lines.append(_line(view.queries, clean, "clean", theme.CLEAN, 2.0))
        lines += [
            _line(
                view.queries,
                _added(clean, row.by_query[neuron]),
                f"without {' '.join(row.heads)}",
                theme.INTERVENED,
                2.0,
            )
            for row in chosen
        ]
        rows.append(((neuron, None), lines))
    return stacked(rows, x="Position of the ablated query", legend=True, height=200)


def _added(clean: list[float | None], change: list[float | None]) -> list[float | None]:
    return [None if a is None or b is None else a + b for a, b in zip(clean, change, strict=True)]


def _line(x: list[int], y: list[float | None], name: str, colour: str, width: float) -> go.Scatter:
    return go.Scatter(
        x=x, y=y, name=name, legendgroup=name, mode="lines", line={"color": colour, "width": width},
        hovertemplate="%{y:.4f}<extra>" + name + "</extra>",
    )  # fmt: skip


def aligned(view: NaturalView) -> go.Figure:
    """Both occurrences over each other; with clipped neurons the second occurrence without them too."""
    if view.clean is None:
        return theme.chart(x=theme.axis("Token"), y=theme.axis(""), height=140)
    names = [name for name in view.clean.first if name not in ("ln_scale", "top1_prob")]
    titles = {"entropy": ("Entropy", "nats"), "loss": ("Loss", "nats"), "kl_unigram": ("KL to unigram", "nats")}
    rows = []
    for name in names:
        lines = [
            *_occurrence(view.clean.first[name], "first occurrence", theme.SERIES[0]),
            *_occurrence(view.clean.second[name], "second occurrence", theme.SERIES[1]),
        ]
        if view.clipped is not None:
            lines += _occurrence(view.clipped.second[name], "second, clipped", theme.SERIES[3], dash="dot")
        rows.append((titles.get(name, (name, None)), lines))
    ticks = {"tickvals": list(range(7)), "ticktext": OFFSETS}
    return stacked(rows, x="Token", legend=True, height=140, ticks=ticks)


def _occurrence(curve: CurveView, name: str, colour: str, dash: str = "solid") -> list[go.Scatter]:
    line = go.Scatter(
        x=list(range(7)),
        y=curve.mean,
        name=name,
        legendgroup=name,
        mode="lines+markers",
        line={"color": colour, "dash": dash},
        hovertemplate="%{y:.4f}<extra>" + name + "</extra>",
    )
    return [line]
