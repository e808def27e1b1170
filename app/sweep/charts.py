"""A sweep's figures: any `FigureView` drawn as what it says it is, and the charts of the sweep pages."""

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go

from app.core import theme
from app.sweep.view import CalibrationView, CompareView, FigureView, Point, SweepNeuronView

WEBGL_FROM = 5000  # marks


def draw(view: FigureView, root: str = "") -> go.Figure:
    traces = {"scatter": _scatter, "box": _boxes, "lines": _lines, "bars": _bars}[view.kind](view, root)
    numeric = view.kind in ("scatter", "lines")
    x = theme.axis(view.x, **({} if numeric else {"type": "category"}))
    y = theme.axis(view.y)
    if view.x_log:
        x = theme.log_axis(view.x, (point.x for point in view.rows))
    if view.y_log:
        y = theme.log_axis(view.y, (point.y for point in view.rows))
    layout: dict[str, Any] = {"boxmode": "group"} if view.kind == "box" else {}
    if view.kind == "bars":
        layout = {"barmode": "group"}
    return theme.chart(*traces, x=x, y=y, height=420, **layout)


def _series(points: Iterable[Point]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.series, []).append(point)
    return found


def _scatter(view: FigureView, root: str) -> list[Any]:
    """Quiet marks, or coloured ones with a scale; the marked set with a ring."""
    colours = [point.colour for point in view.rows if point.colour is not None]
    kind = go.Scattergl if len(view.rows) > WEBGL_FROM else go.Scatter
    traces = []
    for name, points in _series(view.rows).items():
        marked = points[0].marked
        marker: dict[str, Any] = {
            "size": 11 if marked else 7,
            "line": {"width": 2 if marked else 0, "color": theme.MARK},
        }
        if colours:
            marker |= {"color": [point.colour for point in points], "coloraxis": "coloraxis"}
        else:
            marker |= {"color": theme.INTERVENED if marked else theme.SERIES[0], "opacity": 1 if marked else 0.55}
        hover = f"%{{text}}<br>{view.x}: %{{x:.4g}}<br>{view.y}: %{{y:.4g}}"
        hover += f"<br>{view.colour}: %{{marker.color:.4g}}" if colours else ""
        traces.append(
            kind(
                x=[point.x for point in points],
                y=[point.y for point in points],
                mode="markers",
                name=name,
                text=[theme.label(point.label) for point in points],
                customdata=[root + point.href if point.href else "" for point in points],
                meta=theme.OPENS,
                hovertext=[_about(view, point) for point in points],
                marker=marker,
                hovertemplate=hover + "<br>%{hovertext}<extra></extra>",
            )
        )
    if view.diagonal:
        ends = [p.x for p in view.rows if isinstance(p.x, float) and p.x > 0]
        if ends:
            line = [min(ends), max(ends)]
            traces.append(
                go.Scatter(
                    x=line,
                    y=line,
                    mode="lines",
                    name="equal",
                    line={"color": theme.QUIET, "dash": "dot"},
                    hoverinfo="skip",
                )
            )
    return traces


def _about(view: FigureView, point: Point) -> str:
    found = view.neurons.get(point.label)
    return theme.of_neuron(found.norm, found.logit_var, found.rho, found.labels) if found else ""


def _boxes(view: FigureView, root: str) -> list[Any]:
    return [
        go.Box(
            x=[point.x for point in points],
            y=[point.y for point in points],
            name=name,
            boxpoints=False,
            marker_color=theme.SERIES[index],
        )
        for index, (name, points) in enumerate(_series(view.rows).items())
    ]


def _lines(view: FigureView, root: str) -> list[Any]:
    series = _series(view.rows)
    return [
        go.Scatter(
            x=[point.x for point in points],
            y=[point.y for point in points],
            mode="lines",
            name=name,
            line={
                "color": theme.QUIET
                if index == 0 and len(series) > 1
                else theme.SERIES[(index - (len(series) > 1)) % 6],
                "width": 1.5,
            },
            hovertemplate="%{x}: %{y:.4g}<extra>" + name + "</extra>",
        )
        for index, (name, points) in enumerate(series.items())
    ]


def _bars(view: FigureView, root: str) -> list[Any]:
    return [
        go.Bar(
            x=[point.x for point in points],
            y=[point.y for point in points],
            name=name,
            marker_color=theme.SERIES[index],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [(p.high or p.y or 0.0) - (p.y or 0.0) for p in points],
                "arrayminus": [(p.y or 0.0) - (p.low or 0.0) for p in points],
                "color": theme.QUIET,
                "thickness": 1,
            },
        )
        for index, (name, points) in enumerate(_series(view.rows).items())
    ]


def drawn(view: FigureView, root: str = "") -> go.Figure:
    """`draw`, with its colour scale where it has one."""
    figure = draw(view, root)
    values = [point.colour for point in view.rows]
    if view.colour and any(value is not None for value in values):
        axis: dict[str, Any] = {"colorbar": {"title": {"text": view.colour, "side": "right"}, "thickness": 10}}
        if view.colour_centred:
            most = theme.symmetric(values)
            axis |= {"colorscale": theme.DIVERGING, "cmin": -most, "cmax": most}
        else:
            known = [value for value in values if value is not None]
            axis |= {"colorscale": theme.SEQUENTIAL, **_limits(view, known)}
        figure.update_layout(coloraxis=axis)
    return figure


def _limits(view: FigureView, known: list[float]) -> dict[str, float]:
    """From the smallest to the largest; a fraction from 0, below which a few wild ratios would flatten the scale."""
    fraction = view.colour is not None and "fraction" in view.colour
    return {"cmin": 0.0 if fraction else min(known), "cmax": max(*known, 1e-9)}


def histogram(view: SweepNeuronView) -> go.Figure:
    """Kept tokens by activation."""
    n = len(view.histogram)
    width = (view.high - view.low) / n or 1.0
    bars = go.Bar(
        x=[view.low + (i + 0.5) * width for i in range(n)],
        y=view.histogram,
        width=width,
        marker_color=theme.SERIES[0],
        hovertemplate="about %{x:.3f}: %{y} tokens<extra></extra>",
    )
    figure = theme.chart(
        bars, x=theme.axis("activation"), y=theme.log_axis("tokens", view.histogram), height=260, bargap=0
    )
    if view.row.baseline is not None:
        figure.add_vline(
            x=view.row.baseline, line={"color": theme.INTERVENED, "dash": "dot"}, annotation_text="baseline"
        )
    return figure


def comparison(view: CompareView, root: str = "") -> go.Figure:
    """One sweep against the other."""
    points = go.Scatter(
        x=[p.x for p in view.points],
        y=[p.y for p in view.points],
        mode="markers",
        text=[p.label for p in view.points],
        customdata=[f"{root}/sweeps/{view.a.id}/neurons/{p.label}" for p in view.points],
        meta=theme.OPENS,
        marker={"color": theme.SERIES[0], "size": 7, "opacity": 0.6},
        hovertemplate="%{text}<br>a: %{x:.4g}<br>b: %{y:.4g}<extra></extra>",
        name="neurons",
    )
    known = [p.x for p in view.points if isinstance(p.x, float)]
    ends = [min(known), max(known)] if known else []
    same = go.Scatter(
        x=ends, y=ends, mode="lines", line={"color": theme.QUIET, "dash": "dot"}, name="equal", hoverinfo="skip"
    )
    return theme.chart(points, same, x=theme.axis(f"a: {view.label}"), y=theme.axis(f"b: {view.label}"), height=400)


def reliability(view: CalibrationView) -> go.Figure:
    """Accuracy against confidence, clean and under ablation."""
    diagonal = go.Scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="perfect", line={"color": theme.QUIET, "dash": "dot"}, hoverinfo="skip"
    )
    colours = [theme.CLEAN, theme.INTERVENED, *(theme.QUIET for _ in view.runs)]
    runs = [
        go.Scatter(
            x=[b.confidence for b in run.bins if b.count],
            y=[b.accuracy for b in run.bins if b.count],
            text=[f"{b.count} tokens" for b in run.bins if b.count],
            mode="lines+markers",
            name=run.name if index < 2 else f"{len(view.runs) - 2} controls",
            legendgroup=run.name if index < 2 else "controls",
            showlegend=index <= 2,
            line={"color": colours[index], "width": 2 if index < 2 else 1},
            hovertemplate="confidence %{x:.3f}<br>accuracy %{y:.3f}<br>%{text}<extra>" + run.name + "</extra>",
        )
        for index, run in enumerate(view.runs)
    ]
    # The controls lie below what they are compared with.
    return theme.chart(
        diagonal,
        *runs[2:],
        *runs[:2],
        x=theme.axis("confidence: top probability"),
        y=theme.axis("accuracy"),
        height=400,
    )


def cumulative(view: CalibrationView, quantity: str) -> go.Figure:
    """Entropy or loss as more neurons are ablated together."""
    series: dict[str, list[Any]] = {}
    for point in view.cumulative:
        series.setdefault(point.series, []).append(point)
    lines = [
        go.Scatter(
            x=[p.n for p in points],
            y=[getattr(p, quantity) for p in points],
            mode="lines+markers",
            name=name,
            line={"color": theme.INTERVENED if index == 0 else theme.PINNED},
        )
        for index, (name, points) in enumerate(series.items())
    ]
    return theme.chart(
        *lines, x=theme.axis("neurons ablated together"), y=theme.axis(f"mean {quantity}", "nats"), height=300
    )
