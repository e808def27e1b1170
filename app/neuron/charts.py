"""Charts of one neuron: where its write direction lies, what it does to the logits, what holding it fixed does."""

import numpy as np
import plotly.graph_objects as go

from app.core import theme
from app.neuron.view import Live, NeuronView, Sample

LN, ENTROPY, LOSS, RANK = theme.SERIES[4], theme.SERIES[0], theme.SERIES[1], theme.SERIES[3]


def null_space(view: NeuronView) -> go.Figure:
    """abs cosine with every singular vector, and the spectrum behind it."""
    d = len(view.singular_values)
    index = np.arange(d, dtype=np.int32)
    cosines = np.array(view.null_space_cosines, dtype=np.float32)
    values = np.array(view.singular_values, dtype=np.float64)
    null, lowest = index[values == 0], theme.floor(values)
    values[values == 0] = np.nan
    bars = go.Scatter(
        x=index,
        y=cosines,
        mode="markers" if d > 400 else "lines+markers",
        marker={"size": 4, "color": theme.SERIES[1]},
        line={"width": 1, "color": theme.SERIES[1]},
        name="abs cosine with w_out",
        hovertemplate="direction %{x}<br>abs cosine %{y:.3f}<extra></extra>",
    )
    spectrum = go.Scatter(
        x=index,
        y=values,
        yaxis="y2",
        mode="lines",
        line={"width": 1.5, "color": theme.QUIET},
        name="singular value",
        hovertemplate="S[%{x}] = %{y:.4g}<extra></extra>",
    )
    return theme.chart(
        spectrum,
        theme.zeros(null, lowest, colour=theme.QUIET).update(yaxis="y2"),
        bars,
        x=theme.axis("Singular direction of W_U, largest first"),
        y=theme.axis("abs cosine", None, range=[0, max(0.05, float(cosines.max()) * 1.08)]),
        yaxis2={
            "overlaying": "y",
            "side": "right",
            "type": "log",
            "showgrid": False,
            "title": {"text": "Singular value"},
            "dtick": 1,
            "exponentformat": "power",
        },
        height=300,
        shapes=[_null_band(d, view.k)],
        annotations=[
            {
                "x": d - 0.5 - view.k,
                "xanchor": "right",
                "yref": "paper",
                "y": 1,
                "yanchor": "top",
                "text": f"null space, k = {view.k} ",
                "showarrow": False,
                "font": {"size": 11, "color": theme.INK},
            }
        ],
    )


def _null_band(d: int, k: int) -> dict[str, object]:
    return {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": d - k - 0.5,
        "x1": d - 0.5,
        "y0": 0,
        "y1": 1,
        "fillcolor": theme.QUIET,
        "opacity": 0.16,
        "line": {"width": 0},
        "layer": "below",
    }


def effect_histogram(view: NeuronView) -> go.Figure:
    """The direct logit effect over the vocabulary; counts on a log axis, since the tails are the point."""
    edges = np.array(view.effect_histogram.edges)
    bars = go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=view.effect_histogram.counts,
        width=np.diff(edges),
        marker={
            "color": ["var(--down)" if x < 0 else "var(--up)" for x in (edges[1:] + edges[:-1]) / 2],
            "line": {"width": 0},
        },
        hovertemplate="%{x:.3f}: %{y} tokens<extra></extra>",
    )
    return theme.chart(
        bars,
        x=theme.axis("Logit per unit of activation"),
        y=theme.axis("Tokens", None, type="log", dtick=1),
        height=280,
        bargap=0,
    )


def effect_by_frequency(view: NeuronView) -> go.Figure:
    """The direct logit effect of a token against how common it is."""
    pairs = np.array(view.effect_by_frequency or np.zeros((0, 2)), dtype=np.float32)
    points = go.Scattergl(
        x=pairs[:, 0],
        y=pairs[:, 1],
        mode="markers",
        marker={"size": 3, "color": theme.SERIES[0], "opacity": 0.4},
        hovertemplate="10^%{x:.2f} times counted<br>%{y:+.3f}<extra></extra>",
    )
    return theme.chart(
        points,
        x=theme.axis("Count of the token", "log10"),
        y=theme.axis("Logit per unit of activation", None, zeroline=True),
        height=280,
    )


def activations(live: Live) -> go.Figure:
    """How often the neuron takes which activation on this text: tokens in equal bins, BOS left out as everywhere."""
    values = np.array([value for value in live.activation[live.skip :] if value is not None])
    counts, edges = np.histogram(values, bins=min(40, max(8, len(values) // 3)))
    bars = go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=counts,
        customdata=np.column_stack([edges[:-1], edges[1:]]),
        width=np.diff(edges),
        marker={"color": theme.SERIES[0], "line": {"width": 0}},
        hovertemplate="%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y} tokens<extra></extra>",
    )
    return theme.chart(bars, x=theme.axis("Activation"), y=theme.axis("Tokens", None), height=240, bargap=0)


def sample_activations(sample: Sample) -> go.Figure:
    """How often the neuron takes which activation over the sample, and where its mean lies."""
    found = sample.activations
    edges = np.array(found.edges if found else [0.0, 0.0])
    bars = go.Bar(
        x=(edges[1:] + edges[:-1]) / 2,
        y=found.counts if found else [],
        customdata=np.column_stack([edges[:-1], edges[1:]]),
        width=np.diff(edges),
        marker={"color": theme.SERIES[0], "line": {"width": 0}},
        hovertemplate="%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y} tokens<extra></extra>",
    )
    figure = theme.chart(bars, x=theme.axis("Activation"), y=theme.axis("Tokens", None), height=250, bargap=0)
    if sample.mean is not None:
        figure.add_vline(x=sample.mean, line={"color": theme.MARK, "dash": "dot"}, annotation_text="mean")
    return figure


def clamp(live: Live) -> go.Figure:
    """Activation held fixed: LN scale, entropy, loss and rank, each relative to the untouched run."""
    clean, held = live.clamp[0], live.clamp[1:]
    x = [point.value for point in held]
    lines = []
    for name, title, colour in (
        ("entropy", "entropy", ENTROPY),
        ("loss", "loss", LOSS),
        ("ln_scale", "LN scale", LN),
        ("rank", "rank of the next token", RANK),
    ):
        before = getattr(clean, name)
        if not before:
            continue
        values = [getattr(point, name) for point in held]
        lines.append(
            go.Scatter(
                x=x,
                y=[None if value is None else 100 * (value / before - 1) for value in values],
                customdata=values,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                name=f"{title} ({before:.3g})",
                hovertemplate=f"{title} %{{customdata:.4g}} (%{{y:+.2f}} %)<extra>held at %{{x}}</extra>",
            )
        )
    return theme.chart(
        *lines,
        x=theme.axis("Activation held at"),
        y=theme.axis("Change against the untouched run", "%", zeroline=True),
        height=300,
    )
