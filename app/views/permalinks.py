"""A stored result and how it compares with what this server computes now; the lists of results."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.views import induction
from app.views.core import TraceView, View
from app.views.notes import NoteView
from app.views.prompt import curve_rows

# Answers that make their table themselves.
OWN_TABLE: dict[str, Any] = {
    "induction": induction.InductionView,
    "heads": induction.HeadsView,
    "attribution": induction.AttributionView,
    "head_ablation": induction.HeadAblationView,
    "natural_repeats": induction.NaturalView,
}
Verdict = Literal["recomputed", "differs", "cached"]


class ResultRow(View):
    """One line of a list of results."""

    hash: str
    kind: str
    model: str
    preview: str = Field(description="The beginning of the prompt.")
    author: str = Field(description="Who asked first.")
    created: datetime
    permalink: str


class ResultsView(View):
    total: int
    rows: list[ResultRow]


class PermalinkView(ResultRow):
    """A result under its canonical request's hash, computed again when it is opened."""

    verdict: Verdict
    sentence: str = Field(description="The verdict in words.")
    largest_difference: float | None = Field(description="Between the stored numbers and those of now; null: cached.")
    differs_at: str | None = Field(description="Where the largest difference, or the first other one, lies.")
    changed: list[str] = Field(
        description="What is not as it was when the result was stored: weights, versions, device."
    )
    weights_sha256: str = Field(description="Of the weights at the time.")
    versions: dict[str, str] = Field(description="Of the programs at the time.")
    request: dict[str, Any] = Field(description="The canonical request; the hash is over this.")
    result: dict[str, Any] = Field(description="The answer of now; the stored one where the verdict is cached.")
    text: str | None = Field(None, description="The prompt as text, where its tokens can be written as text.")
    notes: list[NoteView] = Field([])
    python: str | None = Field(None, description="Code that asks for the same result.")
    notebook: bool = Field(False, description="Whether results of this kind have one, at /r/HASH/notebook.ipynb.")

    @property
    def trace(self) -> dict[str, Any] | None:
        """The run that the result is, or holds."""
        return self.result if "clean" in self.result and "tokens" in self.result else self.result.get("trace")

    def csv_rows(self) -> list[dict[str, Any]]:
        """The result's own table."""
        if self.trace is not None:
            return curve_rows(TraceView.model_validate(self.trace))
        if own := OWN_TABLE.get(self.kind):
            return list(own.model_validate(self.result).csv_rows())
        return [_spread(row) for row in self.result.get("rows") or []]


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    """A heat map's row has its values in columns, one a position."""
    values = row.get("values")
    if not isinstance(values, list):
        return row
    rest = {name: value for name, value in row.items() if name != "values"}
    return rest | {str(position): value for position, value in enumerate(values)}
