"""The Why page: the form as it stands, the prediction taken apart, and the split along the text."""

from typing import Any

from pydantic import Field, SerializeAsAny

from app.core.chips import chip
from app.core.told import words
from app.core.view import ErrorBody, RunView, TraceView, View
from app.why.request import last_position
from app.why.view import CircuitView, WhyCompareView, WhyTextView, WhyView


class Making(View):
    """An answer in the making: a run that the page follows, or a job."""

    at: str = Field(description="Where to ask again, below the root; empty: it has ended.")
    job: str | None = Field(None, description="Its name, where it goes on when the page is closed.")
    stage: str = ""
    done: int | None = None
    total: int | None = None
    message: str | None = Field(None, description="Why it failed.")


class WhyPageView(View):
    state: dict[str, Any]
    models: list[str]
    trace: TraceView | None = None
    why: WhyView | None = None
    along: WhyTextView | None = None
    circuit: CircuitView | None = None
    compared: WhyCompareView | None = None
    lens: SerializeAsAny[View] | None = Field(None, description="The answer of the question lens.")
    runs: dict[str, str] = Field({}, description="The run behind each answer, by its question.")
    making: dict[str, Making] = Field({}, description="What is not whole yet, by its question.")
    python: str = ""
    python_along: str = ""
    python_circuit: str = ""
    python_compared: str = ""
    python_lens: str = ""
    problem: ErrorBody | None = None

    @property
    def shown(self) -> RunView | None:
        """The pass that is split, as the strip colours it."""
        return None if self.trace is None else self.trace.intervened or self.trace.clean

    @property
    def disturbed(self) -> str:
        """What is done to the pass that is split, in words; empty: nothing."""
        done = [item for item in str(self.state.get("do") or "").split() if not item.startswith("!")]
        held = f"the LN scale held at {self.state['ln']}" if self.state.get("ln") else ""
        return ", ".join([*([held] if held else []), *(words(chip(item)) for item in done)])

    @property
    def position(self) -> int | None:
        """The token that is split: known before its split is, which the page follows."""
        if self.why is not None or self.trace is None:
            return self.why.clean.position if self.why else None
        chosen = self.state["pos"]
        return int(chosen) if chosen else last_position(len(self.trace.tokens), self.state["target"])

    def csv_rows(self) -> list[dict[str, Any]]:
        """The parts of the prediction, the split along the text, the circuit, the comparison, or the lens."""
        tables: dict[str, Any] = {
            "along": self.along, "circuit": self.circuit, "compared": self.compared, "lens": self.lens,
        }  # fmt: skip
        chosen = tables.get(str(self.state.get("table")), self.why)
        shown = chosen or next((each for each in (self.why, self.along, self.circuit, self.compared) if each), None)
        return [] if shown is None else shown.csv_rows()
