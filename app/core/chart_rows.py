"""Several charts below each other over one x axis: the same positions, a y axis each."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app.core import theme

GAP = 0.035


def stacked(
    rows: Sequence[tuple[tuple[str, str | None], Sequence[go.Scatter]]],
    *,
    x: str,
    marks: Sequence[float] = (),
    legend: bool = False,
    height: int = 110,
    ticks: dict[str, Any] | None = None,
) -> go.Figure:
    """``rows``: ((title, unit), traces) from top to bottom. ``marks``: a vertical line before each of these x."""
    traces: list[go.Scatter] = []
    named: set[str] = set()
    axes: dict[str, Any] = {}
    size = (1 - GAP * (len(rows) - 1)) / len(rows)
    for index, ((title, unit), lines) in enumerate(rows):
        number = "" if index == 0 else str(index + 1)
        top = 1 - index * (size + GAP)
        axes[f"yaxis{number}"] = {
            "domain": [max(0.0, top - size), top],
            "title": {"text": f"{title}<br>({unit})" if unit else title, "font": {"size": 11}},
            "nticks": 4,
        }
        for line in lines:
            shown = legend and line.showlegend is not False and line.name not in named
            named |= {line.name} if shown else set()
            traces.append(line.update(yaxis=f"y{number}", xaxis="x", showlegend=shown))
    last = "y" if len(rows) == 1 else f"y{len(rows)}"
    axes["xaxis"] = {"anchor": last, "title": {"text": x}, **(ticks or {})}
    line = {"color": theme.MARK, "width": 1, "dash": "dot"}
    shapes = [
        {"type": "line", "x0": at - 0.5, "x1": at - 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": line}
        for at in marks
    ]
    figure = go.Figure(data=traces)
    figure.update_layout(
        template=None,
        height=height * len(rows) + 84,
        margin={"l": 64, "r": 12, "t": 30 if legend else 8, "b": 44},
        hovermode="x",
        shapes=shapes,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        **axes,
    )
    return figure
