"""A prediction from its baseline to its value, part by part; the same along a text."""

from collections.abc import Callable, Iterable, Iterator

import plotly.graph_objects as go

from analysis.grammar import printed
from app.core import theme
from app.why.request import TargetName
from app.why.view import (
    PartView,
    WhyCompareView,
    WhyTextView,
    WhyView,
    largest,
)

NAMES = {"direct": "logits", "ln_scale": "LN scale"}
COLOURS = {"direct": theme.LOGITS, "ln_scale": theme.SCALE}
OF_BASELINE = "the baseline's own"
BARS = 16  # parts drawn singly; the smallest are summed


def waterfall(view: WhyView, order: str = "depth") -> go.Figure:
    """From the baseline to here; a bar can be followed upstream. order: of the parts, by depth or by size."""
    ends = ("baseline", "here")
    return _falling(view.parts, view.baseline_value, view.value, view.target, ends, pressed=True, order=order)


def differences(view: WhyCompareView) -> go.Figure:
    """From the other prediction to this one."""
    there, here = (f"{one.token.position} {theme.label(one.token.text, 12)}" for one in (view.there, view.here))
    if there == here:  # the same place of two texts
        there += " (other)"
    ends, moved = (there, here), view.baseline_difference
    return _falling(view.parts, view.other_value, view.value, view.target, ends, pressed=False, moved=moved)


def _falling(
    every: list[PartView],
    start: float,
    end: float,
    target: TargetName,
    ends: tuple[str, str],
    *,
    pressed: bool,
    order: str = "depth",
    moved: float = 0.0,
) -> go.Figure:
    """Each part two bars, one for either half, from where the part before it ended; depth runs downwards.

    moved: what the baseline itself differs by, before any part.
    """
    parts = largest(every, BARS)
    if order == "size":
        parts = sorted(parts, key=lambda part: -abs(part.total))
    steps = [(OF_BASELINE, moved), *((part.component, part.total) for part in parts)]
    steps = steps if moved else steps[1:]
    labels = [ends[0], *(name for name, _ in steps), ends[1]]
    both = go.Scatter(
        y=[labels[0], labels[-1]],
        x=[start, end],
        mode="markers+text",
        text=[f"{start:.2f}", f"{end:.2f}"],
        textposition=["top center", "bottom center"],
        cliponaxis=False,
        marker={"color": theme.MARK, "size": 9, "symbol": "diamond"},
        name="value",
        showlegend=False,
        hovertemplate="%{y}: %{x:.4f} nats<extra></extra>",
    )
    figure = theme.chart(
        both,
        *_halves(parts, start + moved, lambda part: pressed and part.followed(target)),
        x=theme.axis("Entropy" if target == "entropy" else target.replace("_", "-"), "nats"),
        y=theme.axis("", type="category", categoryorder="array", categoryarray=labels[::-1]),
        height=90 + 24 * len(labels),
        barmode="overlay",
    )
    if moved:
        own = "%{y}: %{x:+.4f} nats: its next token is another one<extra></extra>"
        figure.add_bar(y=[OF_BASELINE], x=[moved], base=[start], orientation="h", width=0.4, showlegend=False,
                       marker={"color": theme.QUIET}, hovertemplate=own)  # fmt: skip
    figure.update_layout(margin={"r": 64})
    # The whole share, at the right of its row: rows by number, since a neuron's name would be read as one.
    for row, (_, size) in zip(range(len(steps), 0, -1), steps, strict=True):
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=8, y=row, yref="y", showarrow=False,
            text=printed(size, "+.2f"), font={"size": 11},
        )  # fmt: skip
    return figure


def _halves(parts: list[PartView], level: float, followed: Callable[[PartView], bool]) -> Iterator[go.Bar]:
    """The bars of either half: the first stands above, and the second begins where it ends. followed: whether a press
    on it goes on upstream."""
    bases: dict[str, list[float]] = {"direct": [], "ln_scale": []}
    for part in parts:
        bases["direct"].append(level)
        bases["ln_scale"].append(level + part.direct)
        level += part.total
    pressed = [part.component if followed(part) else None for part in parts]
    for half, base in bases.items():
        yield go.Bar(
            y=[part.component for part in parts],
            x=[getattr(part, half) for part in parts],
            base=base,
            orientation="h",
            offset=0.0 if half == "direct" else -0.4,  # the axis runs upwards
            width=0.4,
            name=NAMES[half],
            marker={"color": COLOURS[half]},
            hovertemplate="%{y}: %{x:+.4f} nats<extra>" + NAMES[half] + "</extra>",
            customdata=pressed,
            meta=theme.PRESSES if any(pressed) else None,
        )


def along(view: WhyTextView, by: str = "halves") -> go.Figure:
    """At each position what stands above or below the baseline's value, stacked: all direct shares and all through the
    scale (halves), or whole shares by kind or by component."""
    labels = [f"{token.position} {theme.label(token.text, 12)}" for token in view.tokens[: len(view.values)]]
    bars = [
        go.Bar(
            x=labels,
            y=heights,
            name=name,
            marker={"color": colour},
            hovertemplate="%{x}: %{y:+.3f} nats<extra>" + name + "</extra>",
        )
        for name, heights, colour in _stacks(view, by)
    ]
    line = go.Scatter(
        x=labels,
        y=[None if value is None else value - view.baseline_value for value in view.values],
        mode="lines+markers",
        name="sum",
        line={"color": theme.MARK, "width": 1},
        marker={"size": 4},
        hovertemplate="%{x}: %{y:+.3f} nats<extra>here less baseline</extra>",
    )
    return theme.chart(
        *bars,
        line,
        x=theme.axis("", type="category", tickangle=-60, tickfont={"size": 10}),
        y=theme.axis("Above the baseline", "nats"),
        height=320 if by == "halves" else 400,
        barmode="relative",
    )


KINDS = {"embedding": "embedding", "position": "positions", "head": "heads", "mlp": "MLPs", "biases": "biases"}
TURNS = (*theme.SERIES, "var(--quiet)")


def _stacks(view: WhyTextView, by: str) -> Iterator[tuple[str, list[float], str]]:
    """Name, heights and colour of each stack."""
    if by == "halves":
        for half, name in NAMES.items():
            yield (
                name,
                [_sum(getattr(one, half)[at] for one in view.kinds) for at in range(len(view.values))],
                COLOURS[half],
            )
        return
    listed = view.kinds if by == "kind" else view.components
    for i, one in enumerate(listed):
        shares = [_sum(halves) for halves in zip(one.direct, one.ln_scale, strict=True)]
        name = KINDS.get(one.component, one.component)
        yield name, shares, theme.QUIET if one.kind == "rest" else TURNS[i % len(TURNS)]


def _sum(values: Iterable[float | None]) -> float:
    return sum(value or 0.0 for value in values)
