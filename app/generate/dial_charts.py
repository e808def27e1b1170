"""The dials and their twins: how the means differ from the undisturbed texts."""

import plotly.graph_objects as go

from app.core import theme
from app.generate.dial_view import NUMBERS, DialView

SHOWN = ("entropy", "loss")
COLOURS = {"dial": theme.INTERVENED, "temperature": theme.PINNED, "neurons": theme.QUIET}
GAP = 0.03


TITLES = {"entropy": "Δ entropy<br>(nats)", "loss": "Δ loss<br>(nats)"}
"""Short enough for a telephone."""
LABELS = {"dial": "", "temperature": ": temperature", "neurons": ": random neurons"}


def means(view: DialView) -> go.Figure:
    """A panel a number: each arm's mean difference from the undisturbed text of the same seed, with its interval."""
    arms = view.arms[1:]
    figure = go.Figure()
    for place, name in enumerate(SHOWN, 1):
        found = [arm.means[name] for arm in arms]
        figure.add_trace(
            go.Scatter(
                x=[mean.difference for mean in found],
                y=[f"dial {(arm.dial or 0) + 1}{LABELS[arm.kind]}" for arm in arms],
                error_x={
                    "array": [
                        0 if mean.difference_high is None else mean.difference_high - mean.difference for mean in found
                    ],
                    "arrayminus": [
                        0 if mean.difference_low is None else mean.difference - mean.difference_low for mean in found
                    ],
                    "thickness": 1,
                    "width": 3,
                },
                mode="markers",
                marker={"color": [COLOURS[arm.kind] for arm in arms], "size": 8},
                xaxis="x" if place == 1 else f"x{place}",
                showlegend=False,
                hovertemplate="%{y}: %{x:+.4f}<extra>" + NUMBERS[name] + "</extra>",
            )
        )
    width = (1 - GAP * (len(SHOWN) - 1)) / len(SHOWN)
    axes = {
        "xaxis" if place == 0 else f"xaxis{place + 1}": {
            "domain": [place * (width + GAP), min(1.0, place * (width + GAP) + width)],
            "title": {"text": TITLES[name], "font": {"size": 11}},
            "zeroline": True,
            "nticks": 4,
        }
        for place, name in enumerate(SHOWN)
    }
    figure.update_layout(
        template=None,
        height=110 + 26 * len(arms),
        margin={"l": 16, "r": 16, "t": 10, "b": 70},
        yaxis={"type": "category", "autorange": "reversed", "automargin": True, "tickfont": {"size": 11}},
        **axes,
    )
    return figure
