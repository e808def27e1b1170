"""Worked examples: prompts whose page was computed beforehand, so that the first paint needs no model.

One file each beside what ships of the model: `examples/<order>-<key>.json`. It holds what is asked (a text, the token
to select, which neuron to intervene on), a sentence that says what to look at, with the page's own numbers where it
names `figures`, the sentence's claim as data (`checks`), and the computed page. `nullscope examples` computes the pages
again and refuses to write one whose claim does not hold; a test does the same with the committed files. Places in a
text are named by its words: another tokenizer changes nothing.

A model without examples of its own is offered the texts of the bundled model's, but for those that speak of a neuron.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from analysis.registry import BUNDLED_FOLDER
from app.core.at_hand import FIELDS, AtHand
from app.core.example_files import ExampleRef, write_json
from app.core.packed import rounded
from app.core.request import Order
from app.core.residency.host import ModelHost
from app.core.view import Provenance, TraceView
from app.prompt.request import PromptState
from app.prompt.view import PromptView

FOLDER = "examples"
BUNDLED = BUNDLED_FOLDER / FOLDER
# The fields of the state that decide what is computed; all others only change how it is shown.
COMPUTED = (
    *("text", "bos", "ln", "pos", "to", "do", "watch", "pin"),
    *("baseline", "sort", "order", "offset", "limit", "find", "fcol", "fmin", "fmax"),
)


BROUGHT = ("do", "watch", "show", "metric", "sort", "order", "by")
"""Of an example's page, what another text does not need."""


class Quantity(BaseModel):
    """A series' mean or extreme over part of the text, or its value here; or a value (absolute) of the neuron's row.

    `activation` is that of the watched neuron.
    """

    model_config = ConfigDict(extra="forbid")

    run: Literal["clean", "intervened", "row"] = "clean"
    series: str
    part: tuple[float, float] = (0.0, 1.0)
    take: Literal["mean", "max", "min", "here"] = "mean"

    def of(self, view: PromptView) -> float:
        if self.run == "row":
            return abs(_in_row(view, self.series))
        assert view.trace is not None
        run = view.trace.intervened if self.run == "intervened" else view.trace.clean
        assert run is not None
        values = next(iter(run.activations.values())) if self.series == "activation" else getattr(run, self.series)
        if self.take == "here":
            here = values[int(view.state["pos"])]
            assert here is not None
            return float(here)
        start, stop = (round(end * len(values)) for end in self.part)
        kept = [value for value in values[max(start, 1) : stop] if value is not None]
        found: dict[str, float] = {"mean": sum(kept) / len(kept), "max": max(kept), "min": min(kept)}
        return found[self.take]


def _in_row(view: PromptView, series: str) -> float:
    """`d_entropy.total` of the first intervened neuron (its row is in the table, since it was picked from there)."""
    assert view.effects is not None
    row: Any = next(row for row in view.effects.rows if row.neuron == view.chips[0].neuron)
    for name in series.split("."):
        row = getattr(row, name)
    return float(row)


class Check(BaseModel):
    """`left` is below (or above) `factor` times `right`, a quantity or a number: the sentence's claim as data."""

    model_config = ConfigDict(extra="forbid")

    left: Quantity
    relation: Literal["below", "above"]
    right: Quantity | float
    factor: float = 1.0

    def _sides(self, view: PromptView) -> tuple[float, float]:
        return self.left.of(view), self.right if isinstance(self.right, float) else self.right.of(view)

    def holds(self, view: PromptView) -> bool:
        left, right = self._sides(view)
        return left < self.factor * right if self.relation == "below" else left > self.factor * right

    def figures(self, view: PromptView) -> str:
        left, right = self._sides(view)
        return f"{left:.4f} {self.relation} {self.factor:g} x {right:.4f}"


class Pick(BaseModel):
    """The last-layer neuron that comes first by a column at the selected token, or the one that is named, and what
    happens to it."""

    model_config = ConfigDict(extra="forbid")

    column: str
    neuron: str = ""
    order: Order = "abs_desc"
    intervention: str = "mean"
    watch: bool = False


class Example(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid")

    key: str
    title: str
    sentence: str
    text: str
    at: str
    pick: Pick | None = None
    shown: dict[str, str] = {}
    checks: list[Check]
    figures: Mapping[str, Quantity] = Field(default_factory=dict)
    view: PromptView | None = None

    @property
    def ref(self) -> ExampleRef:
        neuron = self.view.chips[0].neuron if self.view and self.view.chips else ""
        numbers = {name: quantity.of(self.view) for name, quantity in self.figures.items()} if self.view else {}
        claim = self.sentence.format(neuron=neuron, **numbers) if self.view else self.sentence
        return ExampleRef(key=self.key, title=self.title, claim=claim)

    @property
    def elsewhere(self) -> ExampleRef:
        """On another model only the text is an example; what the sentence says is true of the bundled one."""
        return ExampleRef(key=self.key, title=self.title, claim="The text of a worked example, run on this model.")

    @property
    def state(self) -> PromptState:
        """The state that its page shows."""
        return PromptState.read(dict(self.view.state)) if self.view else PromptState(text=self.text)

    def position(self, trace: TraceView) -> int:
        """The token that ends the first occurrence of `at`."""
        end = self.text.index(self.at) + len(self.at)
        length = 0
        for token in trace.tokens[_first(trace, self.text) :]:
            length += len(token.text)
            if length >= end:
                return token.position
        raise ValueError(f"{self.at!r} is not in the text of {self.key}")


def _first(trace: TraceView, text: str) -> int:
    """Where the text begins: after BOS, whose own text is no part of it."""
    return 0 if text.startswith(trace.tokens[0].text) else 1


@dataclass(frozen=True)
class Shelf:
    """The examples of one folder, in order."""

    folder: Path
    items: tuple[Example, ...]

    def named(self, key: str | None) -> Example | None:
        return next((item for item in self.items if item.key == key), None)


@cache
def shelf(folder: Path = BUNDLED) -> Shelf:
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return Shelf(folder, tuple(Example.model_validate_json(file.read_text("utf-8")) for file in files))


def load(host: ModelHost, key: str) -> None:
    """Read the files, so that the rest here finds them in memory. Fast once it is done."""
    shelf()
    own(host, key)


def own(host: ModelHost, key: str) -> Shelf | None:
    """The examples that were computed with this model, if there are any; its weights count once they are known."""
    entry = host.entries.get(key)
    if entry is None or entry.spec.home is None or not (found := shelf(entry.spec.home / FOLDER)).items:
        return None
    made_with = {source.weights_sha256 for item in found.items if (source := _source(item)) is not None}
    fits = entry.identity is None or not made_with or made_with == {entry.identity.weights_sha256}
    return found if fits else None


def _opening(home: Shelf | None) -> Example | None:
    """What is shown where nothing is asked for; elsewhere none that speaks of the bundled model's neurons."""
    return next(iter(_offered(home)), None)


def _offered(home: Shelf | None) -> Sequence[Example]:
    return home.items if home is not None else [item for item in shelf().items if item.pick is None]


def at_first(host: ModelHost) -> AtHand:
    """What is at hand where nobody has chosen anything: the first example."""
    home = own(host, host.default_key)
    item = _opening(home)
    if item is not None and home is None:
        return AtHand({"example": item.key, "text": item.text})
    if item is not None:
        state, trace = item.state.fields(), item.view.trace if item.view else None
        fields = {name: state[name] for name in FIELDS if state[name]} | {"example": item.key, "model": ""}
        token = trace.tokens[int(state["pos"])].text if trace and state["pos"] else ""
        return AtHand(fields, "", len(trace.tokens) if trace else None, token)
    return AtHand()


def _source(example: Example) -> Provenance | None:
    trace = example.view.trace if example.view else None
    return trace.provenance if trace else None


def refs(home: Shelf | None) -> list[ExampleRef]:
    """Those offered. home: the model's own."""
    return [item.elsewhere if home is None else item.ref for item in _offered(home)]


def filled(state: PromptState, *, first: bool, home: Shelf | None) -> tuple[PromptState, Example | None]:
    """`state` with its example's text and, where the address says nothing else, the example's own selection.

    first: an address without an example shows the first one. home: the model's own examples. A text of one's own is no
    example any more.
    """
    example = (home or shelf()).named(state.example) or (_opening(home) if first and not state.text else None)
    if example is None:
        return state.model_copy(update={"example": None}), None
    if state.text and state.text != example.text:
        shown = example.state  # what the example brought along goes with it; what was chosen beside it stays
        brought = {name: PromptState.model_fields[name].get_default() for name in BROUGHT}
        same = {name: value for name, value in brought.items() if getattr(state, name) == getattr(shown, name)}
        return state.model_copy(update={**same, "example": None}), None
    own = {}
    if first and home is not None:
        kept = example.state
        own = {name: getattr(kept, name) for name in PromptState.model_fields if name not in state.model_fields_set}
    return state.model_copy(update={**own, "model": state.model, "example": example.key, "text": example.text}), example


def stored(state: PromptState, example: Example | None, dtype: str) -> PromptView | None:
    """The page computed beforehand, if it is what `state` asks for and was computed in ``dtype``."""
    if example is None or example.view is None:
        return None
    if (source := _source(example)) is None or source.dtype != dtype:
        return None
    kept = example.state
    if any(getattr(state, name) != getattr(kept, name) for name in COMPUTED):
        return None
    here = {name: value for name, value in state.fields().items() if name not in COMPUTED}
    return example.view.model_copy(update={"state": {**example.view.state, **here}})


def failures(example: Example, view: PromptView) -> list[str]:
    """The checks that do not hold on `view`, with their figures."""
    return [check.figures(view) for check in example.checks if not check.holds(view)]


def write(example: Example, view: PromptView, file: Path) -> None:
    """The file with a newly computed page; six digits, more than a first look can see."""
    plain = json.loads(example.model_dump_json(exclude={"view"}, exclude_defaults=True))
    write_json({**plain, "view": rounded(json.loads(view.model_dump_json()))}, file)
