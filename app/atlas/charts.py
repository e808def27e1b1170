"""The map of the neurons: any column against any other, with marginals, random controls, labels and known names."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.atlas.view import AtlasView, Points
from app.core import theme

TITLES = {
    "neuron": "Neuron",
    "layer": "Layer",
    "norm": "Norm ‖w_out‖",
    "norm_in": "Norm ‖w_in‖",
    "cost": "Weight-decay cost",
    "cos_in_out": "cos(w_in, w_out)",
    "norm_gate": "Norm ‖w_gate‖",
    "cos_gate_in": "cos(w_gate, w_in)",
    "cos_gate_out": "cos(w_gate, w_out)",
    "logit_var": "LogitVar",
    "norm_over_logit_var": "Norm / LogitVar",
    "v_score": "v = 1 / (1 + ‖w W_U‖ / ‖w‖)",
    "skew": "Skew of the cosines",
    "kurtosis": "Kurtosis of the cosines",
    "rho": "ρ, length in the null space over the whole",
    "rho_share": "ρ with k at 1 % of d_model",
    "frequency_alignment": "Frequency alignment",
    "te": "Total effect (sweep)",
    "de": "Direct effect (sweep)",
    "ln_mediated_fraction": "LN-mediated fraction",
    "frequency_mediated_fraction": "Frequency-mediated fraction",
    "mean_abs_d_entropy": "Mean |ΔH| (sweep)",
    "mean_abs_d_kl": "Mean |ΔKL| (sweep)",
}
LOGARITHMIC = {"norm", "norm_in", "norm_gate", "cost", "logit_var", "norm_over_logit_var", "kurtosis", "te", "de"}
SIGNED = {"cos_in_out", "cos_gate_in", "cos_gate_out", "skew", "frequency_alignment"}
LABEL_COLOURS = dict(
    zip(("entropy", "token-frequency", "prediction", "suppression", "partition"), theme.SERIES[1:], strict=True)
)
WEBGL_FROM = 5_000
BINS = 48
NAMED = 12
"""Rings of a label that bear their neurons' names; of more the names would cover each other."""


def neuron_map(view: AtlasView) -> theme.PlainFigure:
    """The scatter with its marginal histograms."""
    points, state = view.points, view.state
    assert points is not None
    x, y = _array(points.x), _array(points.y)
    log_x, log_y = _log(state["x"], x), _log(state["y"], y)
    kind = "scattergl" if len(x) > WEBGL_FROM else "scatter"
    traces: list[dict[str, Any]] = []
    if points.control_x:
        traces.append(_controls(points, kind))
    traces.append(_neurons(points, state, x, y, kind))
    traces += _labelled(points, x, y, kind)
    if points.known:
        traces.append(_known(points, x, y))
    traces += [_marginal(x, log_x, along="x"), _marginal(y, log_y, along="y")]
    return theme.plain_chart(
        *traces,
        x=theme.axis(
            TITLES[state["x"]],
            None,
            type="log" if log_x else "linear",
            dtick=theme.log_ticks(x) if log_x else None,
            exponentformat="power",
            domain=[0, 0.86],
        ),
        y=theme.axis(
            TITLES[state["y"]],
            None,
            type="log" if log_y else "linear",
            dtick=theme.log_ticks(y) if log_y else None,
            exponentformat="power",
            domain=[0, 0.84],
        ),
        height=560,
        xaxis2={"domain": [0.88, 1], "showticklabels": False, "showgrid": False, "anchor": "y"},
        yaxis2={"domain": [0.87, 1], "showticklabels": False, "showgrid": False, "anchor": "x"},
        meta=theme.WIDE,
        shapes=_chance_lines(points),
        annotations=_chance_notes(points, log_x, log_y),
    )


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)


def _log(column: str, values: np.ndarray) -> bool:
    """Whether a logarithmic axis fits: the quantity spans decades and is never 0 or less."""
    known = values[np.isfinite(values)]
    return column in LOGARITHMIC and known.size > 0 and float(known.min()) > 0


def _neurons(points: Points, state: dict[str, Any], x: np.ndarray, y: np.ndarray, kind: str) -> dict[str, Any]:
    colour = _array(points.color)
    column = state["color"]
    known = colour[np.isfinite(colour)]
    scale: dict[str, Any] = {"colorscale": theme.SEQUENTIAL}
    if column in SIGNED and known.size:
        most = float(np.abs(known).max()) or 1.0
        scale = {"colorscale": theme.DIVERGING, "cmin": -most, "cmax": most}
    elif column in LOGARITHMIC and known.size and float(known.min()) > 0:
        colour = np.log10(colour)
    log_colour = column in LOGARITHMIC and known.size > 0 and float(known.min()) > 0
    marker = {
        "color": colour,
        "size": 5 if points.size is None else _sizes(_array(points.size)),
        "opacity": 0.85,
        "line": {"width": 0 if kind == "scattergl" else 0.5, "color": theme.QUIET},
        "colorbar": {
            "title": {"text": ("log10 " if log_colour else "") + TITLES[column], "side": "right", "font": {"size": 11}},
            "thickness": 10,
            "len": 0.82,
            "y": 0.42,
            "x": 1.01,
            "outlinewidth": 0,
        },
        **scale,
    }
    shown = f"{TITLES[state['x']]} %{{x:.4g}}<br>{TITLES[state['y']]} %{{y:.4g}}<br>{TITLES[column]} "
    return dict(
        type=kind,
        x=x,
        y=y,
        customdata=points.neuron,
        text=_told(points),
        mode="markers",
        marker=marker,
        name="neurons",
        showlegend=False,
        hovertemplate="<b>%{customdata}</b><br>"
        + shown
        + ("10^" if log_colour else "")
        + "%{marker.color:.4g}%{text}<extra></extra>",
    )


def _told(points: Points) -> list[str] | str:
    """What the axes do not say of a neuron: norm, LogitVar, ρ, labels. Of very many neurons the labels alone."""
    few = points.facts if len(points.neuron) <= WEBGL_FROM else {}
    found = [points.labels.get(name, "").replace(",", ", ") for name in points.neuron]
    for key, values in reversed(few.items()):
        title = TITLES[key].partition(",")[0]
        numbers = ("–" if value is None else f"{value:.4g}" for value in values)
        found = [
            f"{title} {number}<br>{told}" if told else f"{title} {number}"
            for number, told in zip(numbers, found, strict=True)
        ]
    return ["<br>" + told if told else "" for told in found] if any(found) else ""


def _sizes(values: np.ndarray) -> np.ndarray:
    """3 to 14 pixels by rank, so that one outlier does not shrink all others."""
    order = np.nan_to_num(values, nan=-np.inf).argsort().argsort()
    sizes: np.ndarray = (3 + 11 * order / max(len(values) - 1, 1)).astype(np.float32)
    return sizes


def _controls(points: Points, kind: str) -> dict[str, Any]:
    return dict(
        type=kind,
        x=_array(points.control_x),
        y=_array(points.control_y),
        mode="markers",
        marker={
            "size": 3,
            "color": theme.QUIET,
            "opacity": 0.45,
            "symbol": "cross" if kind == "scattergl" else "cross-thin-open",
        },
        name="random directions, same norms",
        hovertemplate="a random direction<extra></extra>",
    )


def _labelled(points: Points, x: np.ndarray, y: np.ndarray, kind: str) -> list[dict[str, Any]]:
    """A ring around each labelled neuron, one colour a label. A name stands once, however many rings are around it."""
    place = {name: index for index, name in enumerate(points.neuron)}
    traces, told = [], set(points.known)
    for step, (label, colour) in enumerate(LABEL_COLOURS.items()):
        names = [name for name, carried in points.labels.items() if label in carried.split(",")]
        if not names:
            continue
        where = [place[name] for name in names]
        texts = [name if name not in told and len(names) <= NAMED else "" for name in names]
        told.update(texts)
        traces.append(
            dict(
                type=kind,
                x=x[where],
                y=y[where],
                customdata=names,
                mode="markers+text" if any(texts) else "markers",
                text=texts,
                textposition="top center",
                textfont={"size": 10, "color": theme.INK},
                marker={
                    "size": 10 + 2 * step,
                    "symbol": "circle-open",
                    "color": colour,
                    "line": {"width": 1.6, "color": colour},
                },
                name=f"{label} ({len(names)})",
                visible=True if len(names) <= 40 else "legendonly",
                hoverinfo="skip",  # the point within tells all
            )
        )
    return traces


def _known(points: Points, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    place = {name: index for index, name in enumerate(points.neuron)}
    names = [name for name in points.known if name in place]
    where = [place[name] for name in names]
    return dict(
        type="scatter",
        x=x[where],
        y=y[where],
        customdata=names,
        mode="text",
        text=names,
        textposition="top center",
        textfont={"size": 11, "color": theme.INK},
        name="named in the literature",
        hovertext=[points.known[name] for name in names],
        hovertemplate="<b>%{customdata}</b> %{hovertext}<extra></extra>",
    )


def _marginal(values: np.ndarray, log: bool, *, along: str) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    bins = np.geomspace(known.min(), known.max(), BINS + 1) if log and known.size else BINS
    counts, edges = np.histogram(known, bins) if known.size else (np.zeros(1), np.zeros(2))
    steps, counts = edges.astype(np.float32), np.append(counts, 0).astype(np.float32)
    look = {"showlegend": False, "mode": "lines", "hoverinfo": "skip", "meta": theme.WIDE}
    if along == "x":
        return dict(
            type="scatter",
            x=steps,
            y=counts,
            xaxis="x",
            yaxis="y2",
            fill="tozeroy",
            line={"shape": "hv", "width": 1, "color": theme.QUIET},
            **look,
        )
    return dict(
        type="scatter",
        x=counts,
        y=steps,
        xaxis="x2",
        yaxis="y",
        fill="tozerox",
        line={"shape": "vh", "width": 1, "color": theme.QUIET},
        **look,
    )


def _chance_lines(points: Points) -> list[dict[str, Any]]:
    line = {"color": theme.QUIET, "width": 1, "dash": "dash"}
    shapes = []
    if points.y_chance is not None:
        shapes.append(
            {
                "type": "line",
                "xref": "x domain",
                "x0": 0,
                "x1": 1,
                "y0": points.y_chance,
                "y1": points.y_chance,
                "line": line,
            }
        )
    if points.x_chance is not None:
        shapes.append(
            {
                "type": "line",
                "yref": "y domain",
                "y0": 0,
                "y1": 1,
                "x0": points.x_chance,
                "x1": points.x_chance,
                "line": line,
            }
        )
    return shapes


def _chance_notes(points: Points, log_x: bool, log_y: bool) -> list[dict[str, Any]]:
    look = {"showarrow": False, "font": {"size": 10, "color": theme.QUIET}}
    notes = []
    if points.y_chance is not None:
        at = float(np.log10(points.y_chance)) if log_y else points.y_chance
        notes.append(
            {"xref": "x domain", "x": 1, "xanchor": "right", "y": at, "yanchor": "bottom", "text": "chance", **look}
        )
    if points.x_chance is not None:
        at = float(np.log10(points.x_chance)) if log_x else points.x_chance
        notes.append(
            {"yref": "y domain", "y": 0, "yanchor": "bottom", "x": at, "xanchor": "left", "text": " chance", **look}
        )
    return notes
