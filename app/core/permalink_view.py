"""A stored result and how it compares with what this server computes now; the lists of results."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr

from app.core.notes_view import NoteView
from app.core.question import Question
from app.core.told import Told
from app.core.view import View

Verdict = Literal["recomputed", "differs", "cached"]


class ResultRow(View):
    """One line of a list of results."""

    hash: str
    kind: str
    model: str
    preview: str = Field(description="The beginning of the prompt.")
    title: str = Field("", description="What its author calls it; empty: `preview` stands for it.")
    author: str = Field(description="Who asked first.")
    created: datetime
    permalink: str


class ResultsView(View):
    total: int
    rows: list[ResultRow]


class PermalinkView(ResultRow):
    """A result under its canonical request's hash, computed again when it is opened."""

    caption: str = Field("", description="What its author says of it; else what holds here, from its numbers.")
    mine: bool = Field(False, description="Whether whoever asks may change title and caption.")
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

    _view: type[BaseModel] | None = PrivateAttr(None)
    _told: Told = PrivateAttr(Told())

    @property
    def told(self) -> Told:
        """What a shared link and file say before the charts."""
        return self._told

    def telling(self, told: Told) -> Self:
        """The same, which says so; its caption where its author has written none."""
        found = self.model_copy(update={"caption": self.caption or told.caption})
        found._told, found._view = told, self._view
        return found

    @property
    def trace(self) -> dict[str, Any] | None:
        """The run that the result is, or holds."""
        return {"trace": self.result, "prompt": self.result.get("trace")}.get(self.kind)

    def with_table(self, questions: Mapping[str, Question]) -> Self:
        """The same; its table is the one that the view of its question makes, where that makes one itself."""
        view = questions[self.kind].view if self.kind in questions else None
        self._view = view if hasattr(view, "csv_rows") else None
        return self

    def csv_rows(self) -> list[dict[str, Any]]:
        """The result's own table."""
        if self._view is not None:
            return list(self._view.model_validate(self.result).csv_rows())  # type: ignore[attr-defined]
        return [_spread(row) for row in self.result.get("rows") or []]


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    """A heat map's row has its values in columns, one a position."""
    values = row.get("values")
    if not isinstance(values, list):
        return row
    rest = {name: value for name, value in row.items() if name != "values"}
    return rest | {str(position): value for position, value in enumerate(values)}
