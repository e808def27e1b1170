"""The curves of a prompt: each metric over positions, clean and intervened and pinned in the same limits."""

from typing import Any

import plotly.graph_objects as go

from app.core import theme
from app.core.view import RunView, Series, Token, TraceView
from app.prompt.view import ModelFacts, PromptView

Row = tuple[str, str, str | None]
ACTIVATION = "activation "
ROWS: tuple[Row, ...] = (
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
    trace, skip = _prompt(view)
    runs = [("clean", trace.clean, trace.tokens, theme.CLEAN, "solid")]
    if trace.intervened is not None:
        runs.append(("intervened", trace.intervened, trace.tokens, theme.INTERVENED, "solid"))
    if view.pinned is not None:
        pinned = view.pinned.trace
        runs.append(("pinned", pinned.intervened or pinned.clean, pinned.tokens, theme.PINNED, "dot"))
    rows = _rows(trace)
    traces = [
        _line(_series(run, row[0]), name, tokens, colour, dash, axis, skip)
        for axis, row in enumerate(rows, 1)
        for name, run, tokens, colour, dash in runs
    ]
    return _stack(traces, rows, trace.tokens, skip, legend=len(runs) > 1)


def curves_of_trace(trace: TraceView) -> go.Figure:
    """The curves of a run without a page around it."""
    facts = ModelFacts(key="", n_layers=0, d_mlp=0, d_vocab=0, max_tokens=0, starts_with_bos=False)
    return curves(PromptView(state={}, models=[], examples=[], trace=trace, facts=facts))


def changes(view: PromptView) -> go.Figure:
    """One row a metric: intervened minus clean at each position, on the diverging colours."""
    trace, skip = _prompt(view)
    assert trace.intervened is not None
    rows = [row for row in _rows(trace) if _differs(_difference(trace, row[0]))] or list(ROWS[:1])
    bars: list[Any] = [_bars(_difference(trace, row[0]), trace.tokens, axis, skip) for axis, row in enumerate(rows, 1)]
    if view.pinned is not None and view.pinned.trace.intervened is not None:
        beside = view.pinned.trace
        bars += [
            _line(_difference(beside, row[0]), "pinned", beside.tokens, theme.PINNED, "dot", axis, skip)
            for axis, row in enumerate(rows, 1)
        ]
    titled = [(key, f"Δ {title}", unit) for key, title, unit in rows]
    return _stack(bars, titled, trace.tokens, skip, legend=False)


def _prompt(view: PromptView) -> tuple[TraceView, int]:
    assert view.trace is not None
    assert view.facts is not None
    return view.trace, view.facts.skip


def _rows(trace: TraceView) -> list[Row]:
    return [row for row in ROWS if getattr(trace.clean, row[0]) is not None] + [
        (f"{ACTIVATION}{name}", name, None) for name in trace.clean.activations
    ]


def _series(run: RunView, key: str) -> Series:
    if key.startswith(ACTIVATION):
        return run.activations.get(key.removeprefix(ACTIVATION), [])
    found: Series = getattr(run, key) or []
    return found


def _difference(trace: TraceView, key: str) -> Series:
    assert trace.intervened is not None
    pairs = zip(_series(trace.clean, key), _series(trace.intervened, key), strict=True)
    return [None if a is None or b is None else b - a for a, b in pairs]


def _differs(values: Series) -> bool:
    return any(value for value in values if value is not None)


def _stack(traces: list[Any], rows: list[Row], tokens: list[Token], skip: int, *, legend: bool) -> go.Figure:
    figure = go.Figure(data=traces)
    figure.update_layout(
        template=None,
        height=ROW_HEIGHT * len(rows) + 72,
        margin={"l": 64, "r": 12, "t": 26 if legend else 8, "b": 44},
        hovermode="x",
        showlegend=legend,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        bargap=0.25,
    )
    figure.update_layout(_axes(rows, tokens, skip))
    return figure


def _bars(values: Series, tokens: list[Token], axis: int, skip: int) -> go.Bar:
    return go.Bar(
        x=[token.position for token in tokens[skip:]],
        y=values[skip:],
        customdata=[theme.label(token.text, 24) for token in tokens[skip:]],
        marker={
            "color": [theme.DOWN if (value or 0) < 0 else theme.UP for value in values[skip:]],
            "line": {"width": 0},
        },
        showlegend=False,
        xaxis="x",
        yaxis="y" if axis == 1 else f"y{axis}",
        hovertemplate="%{y:+.4f}<extra>%{x} %{customdata}</extra>",
    )


def _line(values: Series, name: str, tokens: list[Token], colour: str, dash: str, axis: int, skip: int) -> go.Scatter:
    return go.Scatter(
        x=[token.position for token in tokens[skip:]],
        y=(values or [None] * len(tokens))[skip:],
        customdata=[theme.label(token.text, 24) for token in tokens[skip:]],
        name=name,
        legendgroup=name,
        showlegend=axis == 1,
        mode="lines+markers" if len(tokens) <= 200 else "lines",
        line={"color": colour, "width": 1.7, "dash": dash},
        marker={"size": 4, "color": colour},
        connectgaps=False,
        xaxis="x",
        yaxis="y" if axis == 1 else f"y{axis}",
        hovertemplate="%{y:.4f} " + name + "<extra>%{x} %{customdata}</extra>",
    )


def _axes(rows: list[Row], tokens: list[Token], skip: int) -> dict[str, Any]:
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
            "nticks": 5,
            "fixedrange": True,
            "rangemode": "normal" if key.startswith(ACTIVATION) or key == "ln_scale" else "tozero",
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
            "showgrid": False,
        }
    return axes
