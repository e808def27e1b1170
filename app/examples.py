"""Worked examples: prompts whose page was computed beforehand, so that the first paint needs no model.

One file each in the model's folder: `examples/<order>-<key>.json`. It holds what is asked (a text, the token to select,
which neuron to intervene on), one sentence that says what to look at, the sentence's claim as data (`checks`), and the
computed page. One more is of the induction page (`Finding`). `nullscope examples` computes the pages again and refuses
to write one whose claim does not hold; a test does the same with the committed files. Places in a text are named by its
words: another tokenizer changes nothing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.present import induction as present
from app.requests.core import Order
from app.requests.induction import InductionRequest
from app.requests.prompt import PromptState
from app.residency.host import ModelHost
from app.views.core import TraceView
from app.views.induction import InductionView
from app.views.prompt import ExampleRef, PromptView

BUNDLED = Path(__file__).parent.parent / "models" / "demo" / "examples"
FINDING = BUNDLED.parent / "induction_page.json"
TOP = 3  # neurons of the finding
# The fields of the state that decide what is computed; all others only change how it is shown.
COMPUTED = (
    *("text", "bos", "ln", "pos", "to", "do", "watch", "pin"),
    *("baseline", "sort", "order", "offset", "limit", "find", "fcol", "fmin", "fmax"),
)


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
    """The last-layer neuron that comes first by a column at the selected token, and what happens to it."""

    model_config = ConfigDict(extra="forbid")

    column: str
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
    view: PromptView | None = None

    @property
    def ref(self) -> ExampleRef:
        neuron = self.view.chips[0].neuron if self.view and self.view.chips else ""
        return ExampleRef(key=self.key, title=self.title, claim=self.sentence.format(neuron=neuron))

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


class Finding(BaseModel):
    """The induction page's example: repeated passages, and the neurons that change most clipped. Its sentence is made
    from its figures, so it says what was found, whatever that is."""

    request: InductionRequest
    view: InductionView

    @property
    def ref(self) -> ExampleRef:
        claim = present.finding(self.view)
        return ExampleRef(key="repeats", title="Repeats", claim=claim, page="/induction")


@cache
def finding(file: Path = FINDING) -> Finding | None:
    return Finding.model_validate_json(file.read_text("utf-8")) if file.is_file() else None


def found(ask: Callable[[InductionRequest], Any]) -> Finding:
    """The finding as the API answers it (`ask`): first which neurons change most, then what clipping them does."""
    first = InductionRequest(rows=32, limit=TOP)
    top = [row["neuron"] for row in ask(first)["ranking"]]
    request = InductionRequest(rows=32, neurons=top, clip=top, limit=100_000)
    return Finding(request=request, view=InductionView.model_validate({**ask(request), "permalink": None}))


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


def at_home(host: ModelHost, key: str) -> bool:
    """Whether this is the model that the examples were computed with."""
    entry = host.entries.get(key)
    return entry is not None and entry.spec.folder == shelf().folder.parent


def refs(*, home: bool) -> list[ExampleRef]:
    """Those offered: elsewhere without the ones that speak of a neuron of the bundled model."""
    offered = [item.ref if home else item.elsewhere for item in shelf().items if home or item.pick is None]
    last = finding() if home else None
    return [*offered, last.ref] if last else offered


def filled(state: PromptState, *, first: bool, home: bool = True) -> tuple[PromptState, Example | None]:
    """`state` with its example's text and, where the address says nothing else, the example's own selection.

    first: an address without an example shows the first one. A text of one's own is no example any more.
    """
    items = shelf()
    example = items.named(state.example) or (items.items[0] if first and items.items and not state.text else None)
    if example is None or (state.text and state.text != example.text):
        return state.model_copy(update={"example": None}), None
    own = {}
    if first and home:
        kept = example.state
        own = {name: getattr(kept, name) for name in PromptState.model_fields if name not in state.model_fields_set}
    return state.model_copy(update={**own, "model": state.model, "example": example.key, "text": example.text}), example


def stored(state: PromptState, example: Example | None) -> PromptView | None:
    """The page computed beforehand, if it is what `state` asks for."""
    if example is None or example.view is None:
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
    _write({**plain, "view": rounded(json.loads(view.model_dump_json()))}, file)


def write_finding(new: Finding, file: Path = FINDING) -> None:
    _write(rounded(json.loads(new.model_dump_json())), file)


def _write(plain: dict[str, Any], file: Path) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(plain, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
    temporary.replace(file)


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value
