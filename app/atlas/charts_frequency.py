"""Charts of the token-frequency page."""

import numpy as np
import plotly.graph_objects as go

from analysis.grammar import printed
from app.atlas import charts_spectrum as quantiles
from app.atlas.view import FrequencyPageView
from app.core import theme

DOT = {"size": 3.5, "color": theme.SERIES[0], "opacity": 0.45}


def ranks(view: FrequencyPageView) -> go.Figure:
    """Zipf's plot of the counts."""
    pairs = np.array(view.summary.ranks or np.zeros((0, 2)))
    line = go.Scatter(
        x=pairs[:, 0],
        y=pairs[:, 1],
        mode="lines",
        line={"color": theme.SERIES[0], "width": 2},
        hovertemplate="rank %{x}: %{y:.3g}<extra></extra>",
    )
    return theme.chart(
        line,
        x=theme.axis("Rank of the token", None, type="log", dtick=1),
        y=theme.axis("Probability", None, type="log", dtick=1, exponentformat="power"),
        height=300,
    )


def alignment(view: FrequencyPageView) -> go.Figure:
    """Signed alignment of every last-layer neuron, and of random directions."""
    bins = np.linspace(-1, 1, 81)
    traces = []
    for name, colour, label in (
        ("controls", theme.QUIET, "random directions, same norms"),
        ("neurons", theme.SERIES[0], "neurons"),
    ):
        values = np.array([value for value in view.summary.alignment[name] if value is not None])
        counts, _ = np.histogram(values, bins)
        traces.append(
            go.Scatter(
                x=bins,
                y=np.append(counts, 0),
                mode="lines",
                line={"shape": "hv", "width": 1.5, "color": colour},
                fill="tozeroy",
                name=label,
                hovertemplate="%{x:.2f}: %{y}<extra></extra>",
            )
        )
    return theme.chart(
        *traces,
        x=theme.axis("Cosine of w W_U with the frequency direction", None, range=[-1, 1]),
        y=theme.axis("Neurons"),
        height=300,
    )


def by_layer(view: FrequencyPageView) -> go.Figure:
    return quantiles.by_layer(view.summary.alignment_quantiles, None, "Frequency alignment")


def bias(view: FrequencyPageView) -> go.Figure:
    """The bias alone as a prediction, against the counts."""
    pairs = np.array(view.summary.bias or np.zeros((0, 2)), dtype=np.float32)
    dots = go.Scattergl(
        x=pairs[:, 0],
        y=pairs[:, 1],
        mode="markers",
        marker=DOT,
        name="tokens",
        hovertemplate="log p_freq %{x:.2f}, log softmax(b_U) %{y:.2f}<extra></extra>",
    )
    low, high = (float(pairs[:, 0].min()), float(pairs[:, 0].max())) if len(pairs) else (0.0, 1.0)
    same = go.Scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"dash": "dash", "width": 1, "color": theme.MARK},
        name="equal",
        hoverinfo="skip",
    )
    return theme.chart(
        dots, same, x=theme.axis("log p_freq", "nats"), y=theme.axis("log softmax(b_U)", "nats"), height=300
    )


def prompt(view: FrequencyPageView) -> go.Figure:
    """Entropy against the distance to the unigram distribution, token by token."""
    found = view.prompt
    assert found is not None
    points = go.Scatter(
        x=found.entropy[1:],
        y=found.kl_unigram[1:],
        mode="markers",
        marker={
            "size": 7,
            "color": [token.position for token in found.tokens[1:]],
            "colorscale": theme.SEQUENTIAL,
            "colorbar": {"title": {"text": "position"}, "thickness": 10},
        },
        text=[theme.label(token.text, 24) for token in found.tokens[1:]],
        hovertemplate="%{text}<br>entropy %{x:.3f}<br>KL %{y:.3f}<extra></extra>",
    )
    return theme.chart(points, x=theme.axis("Entropy", "nats"), y=theme.axis("KL(P_freq ‖ P)", "nats"), height=320)


def shift(view: FrequencyPageView) -> go.Figure:
    """Change of each token's log-probability under ablation, against how common the token is."""
    found = view.shift
    assert found is not None
    x = np.array(found.log_p_freq, dtype=np.float32)
    change = np.array(found.change, dtype=np.float32)
    dots = go.Scattergl(
        x=x,
        y=change,
        mode="markers",
        marker=DOT,
        name="tokens",
        hovertemplate="log p_freq %{x:.2f}: %{y:+.4f}<extra></extra>",
    )
    ends = np.array([x.min(), x.max()])
    line = go.Scatter(
        x=ends,
        y=change.mean() + (found.slope or 0) * (ends - x.mean()),
        mode="lines",
        line={"color": theme.SERIES[1], "width": 2},
        name=f"slope {printed(found.slope or 0, '+.4f')}",
        hoverinfo="skip",
    )
    return theme.chart(
        dots,
        line,
        x=theme.axis("log p_freq", "nats"),
        y=theme.axis("Change of log P when ablated", "nats", zeroline=True),
        height=320,
    )
