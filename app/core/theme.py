"""The look that all charts share: colours by name, scales, sizes, axis titles, safe text.

Colours are CSS variables of static/app.css, so that a chart follows the page's theme without a new request; LIGHT holds
their values for where there is no page (a test keeps the two equal).
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# Plotly asks whatever pandas and pyarrow stand in sys.modules what they are. transformer_lens imports both on the
# loading thread, and a half-imported one made the first page fail: so they are whole before the first figure.
import pandas  # noqa: F401
import plotly.graph_objects as go
import pyarrow  # noqa: F401

from analysis.grammar import printed
from analysis.shipped import shipped
from app.core.escape import visible
from app.core.packed import packed

SERIES = tuple(f"var(--series-{i})" for i in range(1, 7))
CLEAN, INTERVENED, PINNED = "var(--clean)", "var(--intervened)", "var(--pinned)"
LOGITS, SCALE = "var(--logits)", "var(--scale)"
"""Everywhere: what changes the logits, and what only changes the LN scale that divides them."""
MARK, QUIET, GRID, INK = "var(--mark)", "var(--quiet)", "var(--grid)", "var(--ink)"

# A trace's meta, as static/plots.js reads it: what a click on a point does with its customdata.
OPENS = {"click": "open"}  # an address of ours: go there
PRESSES = {"click": "press"}  # the value of the panel's [data-act] button: press it

WIDE = {"wide": True}
"""A trace's meta: what is left out on a phone; a layout's: the rest takes its room there."""

# Magnitudes: luminance carries the value. Changes: symmetric about zero, never red against green.
SEQUENTIAL = "Cividis"
DOWN, ZERO, UP = "var(--down)", "var(--zero)", "var(--up)"
DIVERGING = ((0.0, DOWN), (0.5, ZERO), (1.0, UP))

LIGHT = {
    "--series-1": "#1f4e9c",
    "--series-2": "#c26a12",
    "--series-3": "#5b7f2b",
    "--series-4": "#8a4fa3",
    "--series-5": "#0f7f86",
    "--series-6": "#8d6b1f",
    "--logits": "#35609f",
    "--scale": "#d3a20f",
    "--clean": "#1f4e9c",
    "--intervened": "#c26a12",
    "--pinned": "#7a7f87",
    "--mark": "#14171c",
    "--quiet": "#9aa0a8",
    "--grid": "#eceae4",
    "--ink": "#1c2128",
    "--down": "#2563c9",
    "--zero": "#dcdcd8",
    "--up": "#d9730d",
}


@cache
def plotly_js() -> tuple[Path, str]:
    """plotly.js and its version: the strict build, whose WebGL charts run without ``eval``.

    The build inside the plotly package compiles its WebGL shaders' drivers with ``Function()``, which our content
    security policy (script-src 'self') forbids; the strict one of the same version is precompiled.
    """
    folder = shipped("static") / "vendor" / "plotly"
    return folder / "plotly.min.js", (folder / "VERSION").read_text().split()[1]


@cache
def plotly_packed() -> str:
    """The reduced build (lines, bars, boxes, heat maps; no WebGL) for a page in one file: gzip, as base64.

    Unpacked by static/plots.js: a third of what it is in plain. The build runs without ``eval`` for these kinds.
    """
    script = shipped("static") / "vendor" / "plotly-cartesian" / "plotly-cartesian.min.js"
    return packed(script.read_bytes())


def label(text: str, most: int = 40) -> str:
    """Text of a model or a user for a chart: visible, short, and with Plotly's pseudo-HTML switched off."""
    shown = visible(text)
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def of_neuron(norm: float | None, logit_var: float | None, rho: float | None, labels: Sequence[str] | None) -> str:
    """What hovering over a neuron's point tells in every chart, under its name: lines of Plotly's pseudo-HTML."""
    known = (("norm", norm), ("LogitVar", logit_var), ("ρ", rho))
    numbers = ", ".join(f"{name} {printed(value, '.4g')}" for name, value in known if value is not None)
    return "<br>".join(filter(None, (numbers, ", ".join(labels or ()))))


def axis(title: str, unit: str | None = None, **more: Any) -> dict[str, Any]:
    """An axis with its name and, where it has one, its unit."""
    text = f"{title} ({unit})" if unit else title
    return {"title": {"text": text}, **more}


def chart(
    *traces: Any, x: dict[str, Any], y: dict[str, Any], title: str | None = None, height: int = 320, **layout: Any
) -> go.Figure:
    """A figure in the house style. `x` and `y` come from `axis`."""
    # template=None: Plotly's own template would cost 7 kB in each figure; static/plots.js sets the same defaults.
    figure = go.Figure(data=list(traces))
    figure.update_layout(template=None, **_layout(x, y, title, height), **layout)
    return figure


def _layout(x: dict[str, Any], y: dict[str, Any], title: str | None, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 40 if title else 16, "b": 46},
        "xaxis": x,
        "yaxis": y,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **({"title": {"text": title}} if title else {}),
    }


@dataclass(frozen=True)
class PlainFigure:
    """A figure as data, for charts of very many points.

    plotly.py validates each value in Python, which takes longer than all the rest of a page. Here a test hands the
    figure to plotly.py instead, and a request only writes it down. Arrays travel as Plotly's typed arrays.
    """

    data: tuple[dict[str, Any], ...]
    layout: dict[str, Any]

    def to_json(self) -> str:
        return json.dumps({"data": self.data, "layout": self.layout}, default=_typed_array, separators=(",", ":"))


def _typed_array(values: np.ndarray) -> dict[str, str]:
    code = {"float32": "f4", "float64": "f8", "int32": "i4"}[values.dtype.name]
    return {"dtype": code, "bdata": base64.b64encode(values.tobytes()).decode()}


def plain_chart(
    *traces: dict[str, Any], x: dict[str, Any], y: dict[str, Any], height: int = 320, **layout: Any
) -> PlainFigure:
    """`chart` without plotly.py: traces are dictionaries with their `type`."""
    return PlainFigure(traces, _layout(x, y, None, height) | layout)


def floor(*spectra: np.ndarray) -> float:
    """Where singular values that are zero stand on a logarithmic axis: below everything else."""
    positive = np.concatenate([S[S > 0] for S in spectra]) if spectra else np.zeros(0)
    return float(positive.min()) / 3 if len(positive) else 1.0


def zeros(x: np.ndarray, y: float, *, colour: str = MARK, hover: str = "S[%{x}] = 0") -> go.Scatter:
    """Rings at the axis' lower edge. x: their places, as the spectrum beside them has its own."""
    return go.Scatter(
        x=x,
        y=np.full(len(x), y),
        mode="markers",
        marker={"size": 6, "symbol": "circle-open", "color": colour},
        name="exactly zero",
        showlegend=False,
        hovertemplate=f"{hover}<extra></extra>",
    )


def symmetric(values: Sequence[float | None]) -> float:
    """The limit of a diverging scale over these values: the same on both sides of zero, never 0."""
    return max((abs(v) for v in values if v is not None), default=0.0) or 1.0


def resolved(figure: go.Figure, colours: dict[str, str] | None = None) -> go.Figure:
    """The same figure with its CSS variables replaced, for a file that no page will show."""
    text = figure.to_json()
    for name, value in (colours or LIGHT).items():
        text = text.replace(f"var({name})", value)
    import plotly.io

    return plotly.io.from_json(text)


def log_axis(title: str, values: Iterable[Any], unit: str | None = None, **more: Any) -> dict[str, Any]:
    """A logarithmic axis over these values (what is no positive number has no place on it)."""
    known = np.array([value for value in values if isinstance(value, int | float)], dtype=float)
    return axis(title, unit, type="log", dtick=log_ticks(known), exponentformat="power", **more)


def log_ticks(values: np.ndarray) -> str | int:
    """Of a logarithmic axis: every digit within a decade, 1 2 5 over a few, powers of ten beyond."""
    known = values[np.isfinite(values) & (values > 0)]
    decades = float(np.log10(known.max() / known.min())) if known.size else 1.0
    return "D1" if decades < 1 else "D2" if decades < 4 else 1
