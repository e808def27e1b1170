"""The curves of a prompt: each metric over positions, clean and intervened and pinned in the same limits."""

from typing import Any

import plotly.graph_objects as go

from app.figures import theme
from app.views.core import RunView, Token
from app.views.prompt import PromptView

ROWS = (
    ("entropy", "Entropy", "nats"),
    ("loss", "Loss", "nats"),
    ("ln_scale", "LN scale", None),
    ("kl_unigram", "KL to unigram", "nats"),
    ("top1_prob", "Top-1 prob.", None),
)
ROW_HEIGHT = 104
LABELLED = 56  # up to here each position carries its token as tick label


def curves(view: PromptView) -> go.Figure:
    """One row a metric, one line a run, positions shared. Watched neurons follow as rows of their own."""
    assert view.trace is not None
    assert view.facts is not None
    skip = 1 if view.facts.starts_with_bos else 0
    runs = [("clean", view.trace.clean, view.trace.tokens, theme.CLEAN, "solid")]
    if view.trace.intervened is not None:
        runs.append(("intervened", view.trace.intervened, view.trace.tokens, theme.INTERVENED, "solid"))
    if view.pinned is not None:
        pinned = view.pinned.trace
        runs.append(("pinned", pinned.intervened or pinned.clean, pinned.tokens, theme.PINNED, "dot"))
    rows = [row for row in ROWS if getattr(view.trace.clean, row[0]) is not None]
    rows += [(f"activation {name}", name, None) for name in view.trace.clean.activations]
    traces = [
        _line(run, row[0], name, tokens, colour, dash, axis, skip)
        for axis, row in enumerate(rows, 1)
        for name, run, tokens, colour, dash in runs
    ]
    figure = go.Figure(data=traces)
    figure.update_layout(template=None, height=ROW_HEIGHT * len(rows) + 96, margin={"l": 64, "r": 12, "t": 30, "b": 40}, hovermode="x")
    figure.update_layout(showlegend=len(runs) > 1, legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"})
    figure.update_layout({**_axes(rows, view.trace.tokens, skip)})
    return figure


def _line(
    run: RunView, key: str, name: str, tokens: list[Token], colour: str, dash: str, axis: int, skip: int
) -> go.Scatter:
    values = run.activations.get(key.removeprefix("activation ")) if key.startswith("activation ") else getattr(run, key)
    return go.Scatter(
        x=[token.position for token in tokens[skip:]],
        y=(values or [None] * len(tokens))[skip:],
        text=[theme.label(token.text, 24) for token in tokens[skip:]],
        name=name,
        legendgroup=name,
        showlegend=axis == 1,
        mode="lines+markers" if len(tokens) <= 200 else "lines",
        line={"color": colour, "width": 1.7, "dash": dash},
        marker={"size": 4, "color": colour},
        connectgaps=False,
        xaxis="x",
        yaxis="y" if axis == 1 else f"y{axis}",
        hovertemplate="%{y:.4f} " + name + "<extra>%{x} %{text}</extra>",
    )


def _axes(rows: list[tuple[str, str, str | None]], tokens: list[Token], skip: int) -> dict[str, Any]:
    """Rows from top to bottom with a gap between; one x axis below the last."""
    gap = 0.035
    height = (1 - gap * (len(rows) - 1)) / len(rows)
    axes: dict[str, Any] = {}
    for index, (key, title, unit) in enumerate(rows):
        top = 1 - index * (height + gap)
        name = "yaxis" if index == 0 else f"yaxis{index + 1}"
        text = f"{title}<br>({unit})" if unit else title
        axes[name] = {
            "domain": [max(0.0, top - height), top],
            "title": {"text": text, "font": {"size": 11}},
            "nticks": 4,
            "fixedrange": True,
            "rangemode": "normal" if key.startswith("activation ") or key == "ln_scale" else "tozero",
        }
    last = "y" if len(rows) == 1 else f"y{len(rows)}"
    axes["xaxis"] = {"anchor": last, "title": {"text": "Position (token)"}, "range": [skip - 0.5, len(tokens) - 0.5]}
    if len(tokens) <= LABELLED:
        axes["xaxis"] |= {
            "tickvals": [token.position for token in tokens[skip:]],
            "ticktext": [theme.label(token.text, 10) for token in tokens[skip:]],
            "tickangle": -60,
            "tickfont": {"size": 10, "family": "monospace"},
            "title": {"text": ""},
        }
    return axes
