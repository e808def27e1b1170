"""Charts of the compare page: both sides in the same limits, and the neurons through training."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.compare.view import SidesView, Training
from app.core import theme

COLOURS = (theme.SERIES[0], theme.SERIES[1])
WEBGL_FROM = 5_000


def scatter(view: SidesView, index: int) -> go.Figure:
    """Norm against LogitVar of one side; limits and colours are those of both."""
    side = view.sides[index]
    values = [
        np.array([value for s in view.sides for value in getattr(s, name) if value]) for name in ("norm", "logit_var")
    ]
    limits = [_limits(found) for found in values]
    kind = go.Scattergl if len(side.norm) > WEBGL_FROM else go.Scatter
    layer = side.n_layers - 1
    points = kind(
        x=side.norm,
        y=side.logit_var,
        mode="markers",
        customdata=[f"{layer}.{i}" for i in range(len(side.norm))],
        text=[", ".join(side.labels.get(f"{layer}.{i}", ())) for i in range(len(side.norm))] if side.labels else "",
        marker={
            "size": 5,
            "color": side.rho,
            "colorscale": theme.SEQUENTIAL,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": {"text": "ρ"}, "thickness": 10},
        },
        hovertemplate="<b>%{customdata}</b><br>norm %{x:.4g}<br>LogitVar %{y:.3g}<br>ρ %{marker.color:.3f}"
        "<br>%{text}<extra></extra>",
    )
    return theme.chart(
        points,
        x=theme.axis("Norm ‖w_out‖", None, type="log", range=limits[0], dtick=theme.log_ticks(values[0])),
        y=theme.axis(
            "LogitVar", None, type="log", range=limits[1], dtick=theme.log_ticks(values[1]), exponentformat="power"
        ),
        height=400,
    )


def _limits(values: np.ndarray) -> list[float]:
    """Of a logarithmic axis, with a little room."""
    low, high = float(np.log10(values.min())), float(np.log10(values.max()))
    return [low - 0.08, high + 0.08]


def spectra(view: SidesView) -> go.Figure:
    """Singular values over their share of the index, so that widths can differ; zeros as rings below."""
    lines = []
    every = [np.array(side.singular_values) for side in view.sides]
    lowest = theme.floor(*every)
    for side, S, colour in zip(view.sides, every, COLOURS, strict=False):
        x = (np.arange(len(S)) + 0.5) / len(S)
        lines.append(
            theme.zeros(x[S == 0], lowest, colour=colour, hover=f"{theme.label(side.name)}, %{{x:.3f}}: exactly zero")
        )
        lines.append(
            go.Scatter(
                x=x,
                y=np.where(S > 0, S, np.nan),
                mode="lines",
                line={"color": colour, "width": 2},
                name=side.name,
                hovertemplate="%{x:.3f}: %{y:.4g}<extra>" + theme.label(side.name) + "</extra>",
            )
        )
    return theme.chart(
        *lines,
        x=theme.axis("Index / d_model"),
        y=theme.axis("Singular value of W_U", None, type="log", dtick=1, exponentformat="power"),
        height=340,
    )


def by_layer(view: SidesView) -> go.Figure:
    """Median and largest rho of each layer, over depth."""
    lines = []
    for side, colour in zip(view.sides, COLOURS, strict=False):
        depth = [(int(layer) + 1) / side.n_layers for layer in side.rho_by_layer]
        for name, dash in (("max", "solid"), ("median", "dot")):
            lines.append(
                go.Scatter(
                    x=depth,
                    y=[found[name] for found in side.rho_by_layer.values()],
                    mode="lines+markers",
                    line={"color": colour, "width": 2, "dash": dash},
                    name=f"{side.name}, {'largest' if name == 'max' else name}",
                )
            )
    return theme.chart(
        *lines, x=theme.axis("Depth (layer / layers)"), y=theme.axis("ρ", None, range=[0, 1.02]), height=340
    )


def training(found: Training, column: str, title: str, *, line: float | None = None, log: bool = False) -> go.Figure:
    """One column of the tracked neurons over training tokens."""
    moments = ["finished" if moment.tokens is None else millions(moment.tokens) for moment in found.moments]
    lines: list[Any] = [
        go.Scatter(
            x=moments,
            y=[getattr(moment, column)[name] for moment in found.moments],
            mode="lines+markers",
            line={"color": theme.SERIES[i % len(theme.SERIES)], "width": 2},
            name=name,
            hovertemplate=f"{name} at %{{x}}: %{{y:.4g}}<extra></extra>",
        )
        for i, name in enumerate(found.neurons)
    ]
    shapes = (
        []
        if line is None
        else [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": line,
                "y1": line,
                "line": {"color": theme.MARK, "width": 1, "dash": "dash"},
            }
        ]
    )
    return theme.chart(
        *lines,
        x=theme.axis("Training tokens", None, type="category"),
        y=theme.log_axis(title, (y for line in lines for y in line.y)) if log else theme.axis(title),
        height=300,
        shapes=shapes,
    )


def millions(tokens: int) -> str:
    """0, 1.2 M, 24 M."""
    if tokens < 100_000:
        return f"{tokens:,}"
    return f"{tokens / 1e6:.1f} M" if tokens < 10_000_000 else f"{tokens / 1e6:.0f} M"
