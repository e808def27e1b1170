"""The prompt page: a run, the selected token, every last-layer neuron ablated there, and a pinned run beside it.

The runs and effects are the same objects that the API gives; what is added is only what a page needs to draw them.
"""

import math
from typing import Any

from pydantic import Field

from app.core.chips import Chip
from app.core.column import Column, columns_of, value
from app.core.example_files import ExampleRef
from app.core.told import Mark, Says, said
from app.core.view import EffectRow, EffectsView, ErrorBody, Token, TraceView, TurnView, View
from app.prompt.story_view import StoryView


class ModelFacts(View):
    """What the page must know of the model to draw its scales and forms."""

    key: str
    n_layers: int
    n_heads: int = 0
    d_mlp: int
    d_vocab: int
    max_tokens: int
    starts_with_bos: bool = Field(description="Whether token 0 of this prompt is BOS; left out of the scales.")
    skip: int = Field(0, description="First positions that scales and averages leave out: BOS, or an attention sink.")


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
    turns: list[TurnView] | None = Field(
        None, description="The text's turns, and empty ones that may follow; null without a chat template."
    )
    chips: list[Chip] = Field([], description="The interventions, paused ones and those that do not hold here too.")
    unwatched: dict[str, str] = Field({}, description="Names in `watch` that are not drawn, and why.")
    trace: TraceView | None = None
    selected: SelectedView | None = None
    effects: EffectsView | None = None
    marks: dict[str, Mark] = Field({}, description="Neuron -> label and rho, of the neurons shown.")
    effects_problem: ErrorBody | None = Field(None, description="Why there is no table.")
    filter_problem: ErrorBody | None = Field(None, description="Why the table is not filtered as asked.")
    pinned: PinView | None = None
    pinned_effects: dict[str, dict[str, Any]] | None = Field(None, description="Neuron -> its row in the pinned run.")
    pin_problem: ErrorBody | None = Field(None, description="Why the pinned run is not drawn.")
    problem: ErrorBody | None = None
    add_problem: ErrorBody | None = Field(None, description="Why the neuron or head was not added.")
    typed: dict[str, str] = Field({}, description="What was typed into fields whose value was refused.")
    code: dict[str, str] = Field({}, description="Python that computes a panel again.")
    saved: dict[str, Any] | None = Field(None, description="The permalink this page was opened by, and its verdict.")
    story: StoryView | None = Field(None, exclude=True, description="The recorded story, for the page alone.")
    from_file: bool = Field(False, description="Whether this was computed beforehand.")

    @property
    def refuses(self) -> bool:
        """Whether any of what was asked is left out of what is shown."""
        problems = (self.problem, self.add_problem, self.filter_problem, self.pin_problem)
        return any(problems) or bool(self.unwatched) or any(chip.problem for chip in self.chips)

    @property
    def table_columns(self) -> list[tuple[str, Column]]:
        """What the page's table of effects shows: the parts of the chosen change, of the others the total; no column
        without a number in it."""
        by = f"d_{self.state['by']}."
        every = [(key, column) for key, column in columns_of(EffectRow).items() if column.page]
        if self.effects is None or all(row.d_entropy.mlp_norm is None for row in self.effects.rows):
            every = [(key, column) for key, column in every if not key.endswith(".mlp_norm")]
        chosen = [(key, column) for key, column in every if key.startswith(by)]
        others = [(key, column) for key, column in every if "." in key and (key, column) not in chosen]
        plain = [(key, column) for key, column in every if "." not in key]
        totals = [(key, column) for key, column in others if key.endswith(".total")]
        return [each for each in (plain[0], *chosen, *totals, *plain[1:]) if self._is_filled(each[0])]

    def _is_filled(self, key: str) -> bool:
        """Whether any row has that number: at the last token no loss is defined, without counts no frequency."""
        rows = self.effects.rows if self.effects else []
        return not rows or any(value(row, key) is not None for row in rows)

    @property
    def ends_here(self) -> bool:
        """Whether no token follows the one that the table is about."""
        return self.effects is not None and self.effects.clean.next_token is None

    @property
    def says(self) -> Says | None:
        """None where nothing is selected, or the table is not at the selected token."""
        here = self.effects.clean if self.effects else None
        if here is None or str(here.position) != self.state.get("pos"):
            return None
        assert self.effects is not None
        return said(self.effects)

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
            "skip": self.facts.skip,
            "log_vocab": math.log(self.facts.d_vocab),
            **{name: run.model_dump(exclude={"top"}) for name, run in runs.items() if run is not None},
            "top": [[[item.text, item.prob] for item in at[:5]] for at in self.trace.clean.top],
        }

    def csv_rows(self) -> list[dict[str, Any]]:
        """The curves: one row a position."""
        return [] if self.trace is None else self.trace.csv_rows()
