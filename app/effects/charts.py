"""Heat map of a prompt, joint against single ablations, dose response, and the LN ledger."""

from typing import Any

import plotly.graph_objects as go

from analysis.grammar import printed
from app.core import theme
from app.core.view import Token
from app.effects.view import DoseRow, DoseView, HeatmapView, JointView, LedgerRow, LedgerView, LensView

PART_TITLES = {
    "total": "total",
    "direct": "direct (norms frozen)",
    "mlp_norm": "through the MLP's norm",
    "ln_mediated": "through LN",
    "ln_only": "LN only",
    "frequency_mediated": "through frequency",
}
LABELLED = 56
OUTER = 0.995
"""The colours reach their ends at this quantile, so that one cell does not pale all the others."""


def heatmap(view: HeatmapView) -> go.Figure:
    """Every token by the first neurons; blue lowers, orange raises, grey is nothing."""
    values = [row.values for row in view.rows]
    signed = view.metric != "kl"
    sizes = sorted(abs(value) for row in values for value in row if value is not None)
    limit = sizes[min(int(OUTER * len(sizes)), len(sizes) - 1)] if sizes else 1.0
    trace = go.Heatmap(
        z=values,
        x=[token.position for token in view.tokens],
        y=[row.neuron for row in view.rows],
        customdata=[[theme.label(token.text, 24) for token in view.tokens]] * len(values),
        colorscale=[list(stop) for stop in theme.DIVERGING] if signed else theme.SEQUENTIAL,
        zmin=-(limit or 1.0) if signed else 0,
        zmax=limit or 1.0,
        colorbar={"title": {"text": "nats", "side": "right"}, "thickness": 12, "len": 0.9},
        hoverongaps=False,
        hovertemplate="%{y} at %{x} “%{customdata}”: %{z:+.5f}<extra></extra>",
    )
    return theme.chart(
        trace,
        x=_token_axis(view.tokens),
        y=theme.axis("Neuron", type="category", autorange="reversed", tickfont={"size": 10, "family": "monospace"}),
        height=max(260, 90 + 15 * len(values)),
    )


LENS_TITLES = {
    "entropy": "entropy (nats)",
    "loss": "loss (nats)",
    "kl_final": "KL to the end (nats)",
    "top_prob": "probability of the top token",
}


def lens(view: LensView, metric: str = "entropy") -> go.Figure:
    """Layers by tokens: a number of each reading (of `LENS_TITLES`), and its most probable next token on hovering."""
    names = [layer.name for layer in view.layers]
    tops = [[top[0] for top in layer.top] for layer in view.layers]
    if metric == "top_prob":
        values = [[top.prob for top in row] for row in tops]
    else:
        values = [getattr(layer, metric) for layer in view.layers]
    trace = go.Heatmap(
        z=values,
        x=[token.position for token in view.tokens],
        y=names,
        customdata=[
            [
                [theme.label(token.text, 24), theme.label(top.text, 24), top.prob]
                for token, top in zip(view.tokens, row, strict=True)
            ]
            for row in tops
        ],
        colorscale=theme.SEQUENTIAL,
        zmin=0,
        colorbar={"title": {"text": LENS_TITLES[metric], "side": "right"}, "thickness": 12, "len": 0.9},
        hoverongaps=False,
        hovertemplate="%{y} at %{x} “%{customdata[0]}”: %{z:.3f}; next “%{customdata[1]}” %{customdata[2]:.3f}"
        "<extra></extra>",
    )
    return theme.chart(
        trace,
        x=_token_axis(view.tokens),
        y=theme.axis(
            "Read out behind",
            type="category",
            tickmode="array",
            tickvals=names,
            tickfont={"size": 10, "family": "monospace"},
        ),
        height=max(260, 90 + LENS_ROW * len(names)),
    )


LENS_ROW = 14
"""Pixels of a reading: of thirty layers the sixty names stand legibly above each other."""


def _token_axis(tokens: list[Token]) -> dict[str, Any]:
    if len(tokens) > LABELLED:
        return theme.axis("Position (token)")
    return theme.axis(
        "",
        tickvals=[token.position for token in tokens],
        ticktext=[theme.label(token.text, 10) for token in tokens],
        tickangle=-60,
        tickfont={"size": 10, "family": "monospace"},
        showgrid=False,
    )


def joint(view: JointView) -> go.Figure:
    """Each part of the change of entropy: the sum of the single effects beside the set together."""
    parts = [part for part in PART_TITLES if getattr(view.joint.d_entropy, part) is not None]
    titles = [PART_TITLES[part] for part in parts]
    bars = [
        go.Bar(
            y=titles,
            x=[getattr(effect.d_entropy, part) for part in parts],
            name=name,
            orientation="h",
            marker={"color": colour},
            hovertemplate="%{x:+.5f} nats<extra>" + name + "</extra>",
        )
        for name, effect, colour in (
            ("sum of single effects", view.sum, theme.PINNED),
            ("together", view.joint, theme.INTERVENED),
        )
    ]
    return theme.chart(
        *bars,
        x=theme.axis("Change of entropy", "nats", zeroline=True),
        y=theme.axis("", autorange="reversed"),
        height=80 + 52 * len(parts),
        barmode="group",
    )


Row = tuple[str, str | None, str]
ROWS: tuple[Row, ...] = (
    ("entropy", "frozen_entropy", "Entropy<br>(nats)"),
    ("loss", "frozen_loss", "Loss<br>(nats)"),
    ("ln_scale", None, "LN scale"),
    ("top1_prob", None, "Top-1 prob."),
)


def dose(view: DoseView) -> go.Figure:
    """One row a metric over the dose; dotted: with the LN scale frozen. Lines mark the activation and the means."""
    rows = [row for row in ROWS if getattr(view.rows[0], row[0]) is not None]
    figure = go.Figure()
    for index, (name, frozen, _) in enumerate(rows, 1):
        figure.add_trace(_curve(view.rows, name, "LN recomputed", index, theme.INTERVENED, "solid"))
        if frozen:
            figure.add_trace(_curve(view.rows, frozen, "LN frozen", index, theme.CLEAN, "dot"))
    figure.update_layout(
        template=None,
        height=70 + 112 * len(rows),
        margin={"l": 64, "r": 16, "t": 30, "b": 46},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        hovermode="x",
        shapes=_marks(view),
        xaxis=theme.axis("Activation that the set is clamped to", anchor=f"y{len(rows)}" if len(rows) > 1 else "y"),
        **_stacked(rows),
    )
    return figure


def _curve(rows: list[DoseRow], name: str, label: str, axis: int, colour: str, dash: str) -> go.Scatter:
    return go.Scatter(
        x=[row.dose for row in rows],
        y=[getattr(row, name) for row in rows],
        customdata=[theme.label(row.top1.text, 24) for row in rows],
        name=label,
        legendgroup=label,
        showlegend=axis == 1,
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2},
        yaxis="y" if axis == 1 else f"y{axis}",
        hovertemplate="%{y:.4f} " + label + "<extra>top token “%{customdata}”</extra>",
    )


def _stacked(rows: list[Row]) -> dict[str, Any]:
    gap = 0.04
    height = (1 - gap * (len(rows) - 1)) / len(rows)
    axes = {}
    for index, (_, _, title) in enumerate(rows):
        top = 1 - index * (height + gap)
        axes["yaxis" if index == 0 else f"yaxis{index + 1}"] = {
            "domain": [max(0.0, top - height), top],
            "title": {"text": title, "font": {"size": 11}},
            "nticks": 4,
        }
    return axes


def _marks(view: DoseView) -> list[dict[str, Any]]:
    """A line through all rows where a neuron stands now, a dotted one at its reference mean."""
    marks = [(neuron.activation, theme.MARK, "solid") for neuron in view.neurons]
    marks += [(neuron.mean, theme.QUIET, "dot") for neuron in view.neurons if neuron.mean is not None]
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1}
    return [
        {**line, "x0": x, "x1": x, "line": {"color": colour, "dash": dash, "width": 1}} for x, colour, dash in marks
    ]


def ledger(view: LedgerView) -> go.Figure:
    """Each component's share of s²; what lies in the null space of W_U stacked on what the logits see."""
    rows = view.rows
    bars = [
        go.Bar(
            x=[row.component for row in rows],
            y=[getattr(row, part) for row in rows],
            customdata=[_percent(row, view.total) for row in rows],
            name=name,
            marker={"color": colour},
            hovertemplate="%{x}: %{y:+.4f} of s², component %{customdata}<extra>" + name + "</extra>",
        )
        for part, name, colour in (
            ("row", "row space: the logits see it", theme.LOGITS),
            ("null", "null space: only the norm sees it", theme.SCALE),
        )
    ]
    return theme.chart(
        *bars,
        x=theme.axis("", type="category", tickangle=-60, tickfont={"size": 10}),
        y=theme.axis("Share of s²"),
        height=380,
        barmode="relative",
    )


def _percent(row: LedgerRow, total: float) -> str:
    return printed(100 * row.share / total, "+.1f") + " %"
