"""Charts of the induction page: curves with a line at each repeat, copies laid over each other, ranking, clipping."""

from collections.abc import Sequence

import plotly.graph_objects as go

from app.core import theme
from app.core.chart_rows import stacked
from app.induction.view import CurveView, InductionView

METRICS = {
    "entropy": ("Entropy", "nats"),
    "loss": ("Loss", "nats"),
    "ln_scale": ("LN scale", None),
    "top1_prob": ("Top-1 prob.", None),
    "kl_unigram": ("KL to unigram", "nats"),
}
FIRST, FROZEN = theme.SERIES[0], theme.SERIES[3]
MOST_LABELLED = 3


def curves(view: InductionView) -> go.Figure:
    """Every metric by position, mean with the middle 80 % of rows; a line where each copy begins."""
    found = {**view.curves, **{f"activation {name}": curve for name, curve in view.activations.items()}}
    first = view.repeat.starts[0]
    x = list(range(first, view.repeat.n_positions))
    rows = []
    for index, (name, curve) in enumerate(found.items()):
        colour = FIRST if name in METRICS else theme.SERIES[(index - len(view.curves)) % 5 + 1]
        rows.append((title(name), banded(x, curve, slice(first, None), colour, title(name)[0])))
    return stacked(rows, x="Position", marks=view.repeat.starts[1:])


def overlay(view: InductionView) -> go.Figure:
    """Every metric and the chosen activations over the offset in a copy, one line a copy."""
    found = view.curves | {f"activation {name}": curve for name, curve in view.activations.items()}
    rows = []
    for name, curve in found.items():
        traces: list[go.Scatter] = []
        for number, start in enumerate(view.repeat.starts):
            where = slice(start, start + view.repeat.length)
            colour = theme.SERIES[number % len(theme.SERIES)]
            label = f"copy {number + 1}"
            offsets = list(range(view.repeat.length))
            traces += banded(offsets, curve, where, colour, label, band=number < 2)
        rows.append((title(name), traces))
    return stacked(rows, x="Token of the copy", legend=True)


def title(name: str) -> tuple[str, str | None]:
    return METRICS.get(name, (name.removeprefix("activation "), None))


def banded(
    x: Sequence[int], curve: CurveView, where: slice, colour: str, name: str, *, band: bool = True, dash: str = "solid"
) -> list[go.Scatter]:
    """A mean line, and its band below it."""
    mean, low, high = curve.mean[where], curve.low[where], curve.high[where]
    x = x[: len(mean)]
    line = go.Scatter(
        x=x,
        y=mean,
        name=name,
        legendgroup=name,
        mode="lines",
        line={"color": colour, "width": 1.8, "dash": dash},
        customdata=list(zip(low, high, strict=True)),
        hovertemplate="%{y:.4f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra>%{x} " + name + "</extra>",
    )
    if not band or low == high:
        return [line]
    quiet = {"showlegend": False, "hoverinfo": "skip", "mode": "lines", "legendgroup": name}
    known = [i for i, value in enumerate(low) if value is not None]
    edge = [x[i] for i in known]
    shade = go.Scatter(
        x=[*edge, *reversed(edge)],
        y=[*(high[i] for i in known), *(low[i] for i in reversed(known))],
        fill="toself",
        fillcolor=colour,
        opacity=0.16,
        line={"width": 0},
        **quiet,
    )
    return [shade, line]


def ranking(view: InductionView) -> go.Figure:
    """Weighted difference on the repeated text against the one on natural repeats, or against rho; colour is rho."""
    rows = [row for row in view.ranking if row.weighted is not None]
    by_natural = any(row.natural is not None for row in rows)
    y = [row.natural if by_natural else row.rho for row in rows]
    chosen = set(view.activations)
    points = go.Scatter(
        x=[row.weighted for row in rows],
        y=y,
        mode="markers+text",
        text=[row.neuron if i < MOST_LABELLED or row.neuron in chosen else "" for i, row in enumerate(rows)],
        textposition="top center",
        textfont={"size": 10, "color": theme.INK},
        customdata=[
            [f"neurons:{row.neuron}", row.neuron, theme.of_neuron(row.norm, row.logit_var, row.rho, row.labels)]
            for row in rows
        ],
        meta=theme.PRESSES,
        marker={
            "size": [11 if row.neuron in chosen else 7 for row in rows],
            "color": [row.rho for row in rows],
            "colorscale": theme.SEQUENTIAL,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": {"text": "ρ"}, "thickness": 10, "outlinewidth": 0},
            "line": {"width": [2 if row.neuron in chosen else 0 for row in rows], "color": theme.MARK},
        },
        hovertemplate="<b>%{customdata[1]}</b><br>x %{x:.4f}, y %{y:.4f}<br>%{customdata[2]}<extra></extra>",
    )
    label = "On natural repeats" if by_natural else "ρ"
    return theme.chart(
        points,
        x=theme.axis("Weighted activation difference on this text", zeroline=True),
        y=theme.axis(label, zeroline=by_natural),
        height=400,
    )


def clip(view: InductionView) -> go.Figure:
    """H_post / H and the change of loss by position; the controls' band on the repeats."""
    found = view.clip
    assert found is not None
    first = view.repeat.starts[0]
    x = list(range(first, view.repeat.n_positions))
    ratio = banded(x, found.ratio, slice(first, None), theme.INTERVENED, "clipped")
    ratio += banded(x, found.ratio_frozen, slice(first, None), FROZEN, "LN scale frozen", band=False, dash="dot")
    if found.control_ratio is not None:
        ratio += banded(
            found.control_positions, found.control_ratio, slice(None), theme.QUIET, f"{len(found.controls)} random sets"
        )
    loss = banded(x, found.loss_change, slice(first, None), theme.INTERVENED, "clipped")
    loss += banded(x, found.loss_change_frozen, slice(first, None), FROZEN, "LN scale frozen", band=False, dash="dot")
    rows = [(("H_post / H", None), ratio), (("Δ loss", "nats"), loss)]
    return stacked(rows, x="Position", marks=view.repeat.starts[1:], legend=True, height=280)


def clip_tokens(view: InductionView) -> go.Figure:
    """Loss before against its change, one point a token of a repeat."""
    assert view.clip is not None
    points = view.clip.points
    marks = go.Scatter(
        x=[point.loss for point in points],
        y=[point.change for point in points],
        mode="markers",
        customdata=[[None, point.row, point.position] for point in points],
        marker={
            "size": 5,
            "color": [point.reciprocal_rank for point in points],
            "colorscale": theme.SEQUENTIAL,
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": {"text": "1/(rank+1)"}, "thickness": 10},
        },
        hovertemplate="row %{customdata[1]}, position %{customdata[2]}<br>"
        "loss %{x:.3f}, change %{y:.4f}<extra></extra>",
    )
    return theme.chart(
        marks, x=theme.axis("Loss before", "nats"), y=theme.axis("Change of loss", "nats", zeroline=True), height=330
    )


def clip_controls(view: InductionView) -> go.Figure:
    """Where the chosen set stands among random ones: mean H_post / H and change of loss on the repeats."""
    assert view.clip is not None
    found = view.clip
    random = go.Scatter(
        x=[row.ratio for row in found.controls],
        y=[row.loss_change for row in found.controls],
        mode="markers",
        name="random directions, same norms",
        marker={"color": theme.QUIET, "size": 7},
        text=[", ".join(f"{norm:.3g}" for norm in row.norms) for row in found.controls],
        hovertemplate="norms %{text}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
    )
    names = " ".join(rule.neuron for rule in found.rules)

    def mark(x: float | None, y: float | None, name: str, colour: str, symbol: str) -> go.Scatter:
        return go.Scatter(
            x=[x], y=[y], name=name, mode="markers", marker={"color": colour, "size": 12, "symbol": symbol},
            text=[names], hovertemplate="%{text}<br>%{x:.4f}, %{y:.4f}<extra>" + name + "</extra>",
        )  # fmt: skip

    frozen = mark(found.repeat_ratio_frozen, found.repeat_loss_change_frozen, "LN scale frozen", FROZEN, "diamond-open")
    chosen = mark(found.repeat_ratio, found.repeat_loss_change, "clipped", theme.INTERVENED, "diamond")
    return theme.chart(
        random,
        frozen,
        chosen,
        x=theme.axis("H_post / H on the repeats"),
        y=theme.axis("Change of loss", "nats", zeroline=True),
        height=330,
    )
