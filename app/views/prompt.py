"""The prompt page: a run, the selected token, every last-layer neuron ablated there, and a pinned run beside it.

The runs and effects are the same objects that the API gives; what is added is only what a page needs to draw them.
"""

import math
from typing import Any

from pydantic import Field

from app.views.core import EffectsView, ErrorBody, Token, TraceView, View


class ModelFacts(View):
    """What the page must know of the model to draw its scales and forms."""

    key: str
    n_layers: int
    n_heads: int = 0
    d_mlp: int
    d_vocab: int
    max_tokens: int
    starts_with_bos: bool = Field(description="Whether token 0 of this prompt is BOS; left out of the scales.")


class NextRow(View):
    """One candidate for the next token, in each run that is shown; null where it is outside that run's top k."""

    id: int
    text: str
    is_next: bool = Field(description="Whether this is the token that really follows.")
    rank: int | None = Field(description="In the clean run, 0-based; null outside the top k unless it is the true one.")
    clean: float | None
    intervened: float | None
    pinned: float | None


class SelectedView(View):
    """The selected token: what the model expects next."""

    position: int
    token: Token
    next_token: Token | None
    rows: list[NextRow]
    clean: dict[str, float | None] = Field(description="entropy, loss, ln_scale, kl_unigram, top1_prob, rank here.")
    intervened: dict[str, float | None] | None
    pinned: dict[str, float | None] | None


class Chip(View):
    """An intervention as the page names it."""

    item: str
    neuron: str = Field(description="What it is on: a neuron, or a head written L3H2.")
    label: str
    active: bool
    head: str | None = Field(None, description="The head as layer.head; null on a neuron.")


class ExampleRef(View):
    key: str
    title: str
    claim: str
    page: str = Field("/", description="The page that it is an example of.")


class PinView(View):
    label: str
    trace: TraceView
    facts: ModelFacts


class PromptView(View):
    state: dict[str, str] = Field(description="The page's state as form fields.")
    models: list[str]
    examples: list[ExampleRef]
    example: ExampleRef | None = None
    facts: ModelFacts | None = None
    chips: list[Chip] = Field([], description="The interventions, paused ones too.")
    trace: TraceView | None = None
    selected: SelectedView | None = None
    effects: EffectsView | None = None
    effects_problem: ErrorBody | None = None
    pinned: PinView | None = None
    pinned_effects: dict[str, dict[str, Any]] | None = Field(None, description="Neuron -> its row in the pinned run.")
    problem: ErrorBody | None = None
    code: dict[str, str] = Field({}, description="Python that computes a panel again.")
    saved: dict[str, Any] | None = Field(None, description="The permalink this page was opened by, and its verdict.")
    from_file: bool = Field(False, description="Whether this was computed beforehand.")

    def strip(self) -> dict[str, Any]:
        """What the browser colours tokens from, without a request."""
        assert self.trace is not None
        assert self.facts is not None
        runs = {"clean": self.trace.clean, "intervened": self.trace.intervened}
        beside = self.pinned.trace if self.pinned else None
        if beside is not None:
            runs["pinned"] = beside.intervened or beside.clean
        return {
            "tokens": [token.text for token in self.trace.tokens],
            "ids": [token.id for token in self.trace.tokens],
            "pinned_tokens": [token.text for token in beside.tokens] if beside else [],
            "skip": 1 if self.facts.starts_with_bos else 0,
            "log_vocab": math.log(self.facts.d_vocab),
            **{name: run.model_dump(exclude={"top"}) for name, run in runs.items() if run is not None},
            "top": [[[item.text, item.prob] for item in at[:5]] for at in self.trace.clean.top],
        }

    def csv_rows(self) -> list[dict[str, Any]]:
        """The curves: one row a position."""
        return [] if self.trace is None else curve_rows(self.trace)


def curve_rows(trace: TraceView) -> list[dict[str, Any]]:
    """position, token and each series of both runs."""
    rows: list[dict[str, Any]] = [token.model_dump() for token in trace.tokens]
    for name, run in (("clean", trace.clean), ("intervened", trace.intervened)):
        if run is None:
            continue
        series = {key: getattr(run, key) for key in ("entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank")}
        series |= {f"activation {neuron}": values for neuron, values in run.activations.items()}
        for key, values in series.items():
            for row, value in zip(rows, values or [None] * len(rows), strict=True):
                row[f"{name}.{key}"] = value
    return rows
