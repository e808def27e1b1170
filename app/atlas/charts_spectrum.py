"""Charts of the null-space page."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.atlas.view import NullspaceView, SpectrumView
from app.core import theme

TAIL = 48


def singular_values(view: NullspaceView, *, tail: bool = False) -> go.Figure:
    """The spectrum, whole or its tail, with the knee and the null space shaded."""
    spectrum = view.spectrum
    S = np.array(spectrum.singular_values)
    d = len(S)
    first = max(0, d - max(TAIL, 2 * spectrum.k)) if tail else 0
    log = bool(view.state["log"])
    index = np.arange(d, dtype=np.int32)
    line = go.Scatter(
        x=index[first:],
        y=(np.where(S > 0, S, np.nan) if log else S)[first:],
        mode="lines+markers" if tail else "lines",
        line={"color": theme.SERIES[0], "width": 1.6},
        marker={"size": 5},
        hovertemplate="S[%{x}] = %{y:.6g}<extra></extra>",
    )
    lowest = theme.floor(S)
    bottom, top = float(np.log10(lowest)), float(np.log10(max(S[0], lowest)))
    limits = [bottom - 0.06 * (top - bottom), top + 0.06 * (top - bottom)] if top > bottom else None
    axis = (
        theme.axis("Singular value", None, type="log", dtick=1, exponentformat="power", range=limits)
        if log
        else theme.axis("Singular value", None, rangemode="tozero")
    )
    return theme.chart(
        line,
        theme.zeros(index[S == 0], lowest if log else 0.0),
        x=theme.axis("Index, largest first", None, range=[first - 0.02 * (d - first) - 0.5, d - 0.5]),
        y=axis,
        height=300,
        showlegend=False,
        shapes=_marks(spectrum),
        annotations=_notes(spectrum, first, log),
    )


def _marks(spectrum: SpectrumView) -> list[dict[str, Any]]:
    """The null space shaded, and a line at the knee."""
    d = spectrum.d_model
    upright = {"yref": "paper", "y0": 0, "y1": 1}
    shaded = {"fillcolor": theme.SERIES[1], "opacity": 0.13, "line": {"width": 0}, "layer": "below"}
    marks = [{"type": "rect", "xref": "x", **upright, "x0": d - spectrum.k - 0.5, "x1": d - 0.5, **shaded}]
    if spectrum.knee is not None:
        at = spectrum.knee + 0.5
        dotted = {"line": {"color": theme.MARK, "width": 1, "dash": "dot"}}
        marks.append({"type": "line", "x0": at, "x1": at, **upright, **dotted})
    return marks


def _notes(spectrum: SpectrumView, first: int, log: bool) -> list[dict[str, Any]]:
    """The knee, and how many zeros there are, one above the other; on the side of the line where there is room."""
    knee, space, d = spectrum.knee, spectrum.null_space, spectrum.d_model
    x = d - spectrum.k - 0.5 if knee is None else knee + 0.5
    notes = ["no knee" if knee is None else f"{'weak ' if space.weak else ''}knee at {knee}"]
    if space.exact:
        notes.insert(0, f"{space.exact} exactly zero" + (f", {space.built_in} built in" if space.built_in else ""))
    left = x - first > (d - first) / 2
    return [
        {
            "x": x,
            "xanchor": "right" if left else "left",
            "yref": "paper",
            "y": (0.1 if log else 0.5) + 0.08 * place,
            "yanchor": "bottom",
            "text": f"{text} " if left else f" {text}",
            "showarrow": False,
            "font": {"size": 11, "color": theme.INK},
        }
        for place, text in enumerate(notes)
    ]


def rho_histogram(view: NullspaceView) -> go.Figure:
    """rho of every neuron of the layer, with what chance gives."""
    values = np.array([value for value in view.rho if value is not None])
    counts, edges = np.histogram(values, bins=60, range=(0, 1))
    bars = go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=counts,
        width=np.diff(edges),
        marker={"color": theme.SERIES[0], "line": {"width": 0}},
        hovertemplate="ρ %{x:.2f}: %{y} neurons<extra></extra>",
    )
    chance = view.spectrum.chance
    lines = [(chance.rms, "chance"), (chance.maximum, "largest by chance")]
    return theme.chart(
        bars,
        x=theme.axis("ρ, length in the null space over the whole length", None, range=[0, 1.01]),
        y=theme.axis("Neurons", None, type="log", dtick=1),
        height=320,
        bargap=0,
        shapes=[
            {
                "type": "rect",
                "yref": "paper",
                "x0": chance.low,
                "x1": chance.high,
                "y0": 0,
                "y1": 1,
                "fillcolor": theme.QUIET,
                "opacity": 0.25,
                "line": {"width": 0},
                "layer": "below",
            },
            *(
                {
                    "type": "line",
                    "yref": "paper",
                    "x0": x,
                    "x1": x,
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": theme.MARK, "width": 1, "dash": "dash"},
                }
                for x, _ in lines
            ),
        ],
        annotations=[
            {
                "x": x,
                "yref": "paper",
                "y": 1 - 0.09 * i,
                "yanchor": "top",
                "xanchor": "left",
                "text": f" {text} {x:.2f}",
                "showarrow": False,
                "font": {"size": 11, "color": theme.INK},
            }
            for i, (x, text) in enumerate(lines)
        ],
    )


def by_layer(quantiles: dict[str, dict[str, float | None]], chance: float | None, title: str) -> go.Figure:
    """Quantiles of a column, layer by layer."""
    layers = [int(layer) for layer in quantiles]
    lines = [
        go.Scatter(
            x=layers,
            y=[quantiles[str(layer)][name] for layer in layers],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            name=label,
        )
        for name, label, colour, dash in (
            ("max", "largest", theme.SERIES[1], "solid"),
            ("q99", "99 %", theme.SERIES[0], "solid"),
            ("q75", "75 %", theme.SERIES[0], "dash"),
            ("median", "median", theme.SERIES[0], "dot"),
            ("min", "smallest", theme.QUIET, "dot"),
        )
    ]
    line = {"color": theme.MARK, "width": 1, "dash": "dash"}
    shapes = (
        []
        if chance is None
        else [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chance, "y1": chance, "line": line}]
    )
    return theme.chart(
        *lines,
        x=theme.axis("Layer", None, dtick=1 if len(layers) < 16 else 4),
        y=theme.axis(title),
        height=320,
        shapes=shapes,
    )


def heads(view: NullspaceView) -> go.Figure:
    """Share of each head's writes in the null space."""
    share = np.array([[np.nan if v is None else v for v in layer] for layer in view.heads or [[]]], dtype=np.float32)
    cells = go.Heatmap(
        z=share,
        colorscale=theme.SEQUENTIAL,
        zmin=0,
        colorbar={"thickness": 10, "title": {"text": "share"}},
        hovertemplate="layer %{y}, head %{x}: %{z:.3f}<extra></extra>",
    )
    return theme.chart(
        cells,
        x=theme.axis("Head", None, dtick=1 if share.shape[1] < 20 else 4),
        y=theme.axis("Layer", None, autorange="reversed", dtick=1 if len(share) < 20 else 4),
        height=320,
    )


def walk(view: NullspaceView) -> go.Figure:
    """LN scale and entropy along the walk, and how little the logits move while the scale is frozen."""
    found = view.walk
    assert found is not None
    rows = (
        ("LN scale", found.ln_scale, theme.SERIES[4], "y3"),
        ("entropy (nats)", found.entropy, theme.SERIES[0], "y2"),
        ("largest change of a log-prob., LN frozen", found.frozen_change, theme.SERIES[1], "y"),
    )
    lines = [
        go.Scatter(
            x=found.amount,
            y=values,
            yaxis=axis,
            mode="lines",
            line={"color": colour, "width": 2},
            name=name,
            hovertemplate="%{x:+.2f} lengths: %{y:.4g}<extra>" + name + "</extra>",
        )
        for name, values, colour, axis in rows
    ]
    frozen = max((value or 0 for value in found.frozen_change), default=0)
    return theme.chart(
        *lines,
        x=theme.axis("Moved by", "lengths of the residual stream"),
        y=theme.axis("Frozen change", "nats", domain=[0, 0.29], range=[0, max(0.05, 1.1 * frozen)]),
        yaxis2={"title": {"text": "Entropy (nats)"}, "domain": [0.36, 0.64]},
        yaxis3={"title": {"text": "LN scale"}, "domain": [0.71, 1], "rangemode": "tozero"},
        height=420,
        showlegend=False,
    )
