"""Worked examples: prompts whose page was computed beforehand, so that the first paint needs no model.

One file each in the model's folder: `examples/<order>-<key>.json`. It holds the request, one sentence that says what to
look at, the sentence's claim as data (`checks`), and the computed page. `nullscope examples` computes the pages again
and refuses to write one whose claim does not hold; a test does the same with the committed files.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.requests.prompt import PromptState
from app.residency.host import ModelHost
from app.views.core import TraceView
from app.views.prompt import ExampleRef, PromptView

BUNDLED = Path(__file__).parent.parent / "models" / "demo" / "examples"
# The fields of the state that decide what is computed; all others only change how it is shown.
COMPUTED = (
    *("text", "bos", "pos", "to", "do", "watch", "pin"),
    *("baseline", "sort", "order", "offset", "limit", "find", "fcol", "fmin", "fmax"),
)


class Quantity(BaseModel):
    """A mean (or extreme) of one series over some positions, in one run."""

    model_config = ConfigDict(extra="forbid")

    run: str = "clean"
    series: str
    over: tuple[int, int] | None = None
    take: str = "mean"

    def of(self, trace: TraceView) -> float:
        values = getattr(getattr(trace, self.run), self.series)
        start, stop = self.over or (1, len(values))
        kept = [value for value in values[start:stop] if value is not None]
        found: dict[str, float] = {"mean": sum(kept) / len(kept), "max": max(kept), "min": min(kept)}
        return found[self.take]


class Check(BaseModel):
    """`left` is below (or above) `factor` times `right`: the sentence's claim as data."""

    model_config = ConfigDict(extra="forbid")

    left: Quantity
    relation: str
    right: Quantity | float
    factor: float = 1.0

    def holds(self, trace: TraceView) -> bool:
        left = self.left.of(trace)
        right = self.factor * (self.right if isinstance(self.right, float) else self.right.of(trace))
        return left < right if self.relation == "below" else left > right

    def figures(self, trace: TraceView) -> str:
        right = self.right if isinstance(self.right, float) else self.right.of(trace)
        return f"{self.left.of(trace):.4f} {self.relation} {self.factor:g} x {right:.4f}"


class Example(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid")

    key: str
    title: str
    claim: str
    state: PromptState
    checks: list[Check]
    view: PromptView | None = None

    @property
    def ref(self) -> ExampleRef:
        return ExampleRef(key=self.key, title=self.title, claim=self.claim)


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


def refs() -> list[ExampleRef]:
    return [item.ref for item in shelf().items]


def filled(state: PromptState, *, first: bool) -> tuple[PromptState, Example | None]:
    """`state` with its example's text and, where the address says nothing else, the example's own selection.

    first: an address without an example shows the first one. A text of one's own is no example any more.
    """
    items = shelf()
    example = items.named(state.example) or (items.items[0] if first and items.items and not state.text else None)
    if example is None or (state.text and state.text != example.state.text):
        return state.model_copy(update={"example": None}), None
    given = state.model_fields_set if first else set(PromptState.model_fields)
    own = {name: getattr(example.state, name) for name in example.state.model_fields_set if name not in given}
    return state.model_copy(update={**own, "example": example.key, "text": example.state.text}), example


def stored(state: PromptState, example: Example | None, host: ModelHost) -> PromptView | None:
    """The page computed beforehand, if it is what `state` asks for on the model that it was computed with."""
    if example is None or example.view is None or example.view.trace is None:
        return None
    if host.entry(state.model or host.default_key).spec.folder != shelf().folder.parent:
        return None
    view = example.view
    kept = PromptState.read(dict(view.state))
    if any(getattr(state, name) != getattr(kept, name) for name in COMPUTED):
        return None
    shown = {name: str(getattr(state, name)) for name in ("metric", "show", "scale", "by", "at")}
    here = {**view.state, **shown, "example": example.key, "model": state.model or ""}
    return view.model_copy(update={"state": here})


def failures(example: Example, view: PromptView) -> Sequence[str]:
    """The checks that do not hold on `view`, with their figures."""
    assert view.trace is not None
    return [check.figures(view.trace) for check in example.checks if not check.holds(view.trace)]


def write(example: Example, view: PromptView, file: Path) -> None:
    """The file with a newly computed page; numbers to six digits, which is more than a first look can see."""
    plain: dict[str, Any] = json.loads(example.model_dump_json(exclude={"view", "state"}))
    plain["state"] = json.loads(example.state.model_dump_json(exclude_unset=True))
    plain["view"] = rounded(json.loads(view.model_dump_json()))
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
