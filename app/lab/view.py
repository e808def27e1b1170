"""Lists of neurons, pins, histories: what people write down beside notes."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.core.view import View


class ListView(View):
    id: str
    name: str
    description: str
    model: str
    neurons: list[str]
    author: str
    created: datetime
    updated: datetime
    mine: bool
    ablation: str = Field(description="The neurons of the list as interventions, for the prompt page's `do`.")


class ListsView(View):
    rows: list[ListView]


class RevisionView(View):
    author: str
    at: datetime
    body: dict[str, Any]


class HistoryView(View):
    """Newest first; the current state is the first."""

    rows: list[RevisionView]


class PinRow(View):
    target: str
    href: str | None
    created: datetime


class PinsView(View):
    rows: list[PinRow]


class ImportView(View):
    """How many of each were taken over; those that were here already are not counted."""

    notes: int
    lists: int
    pins: int
    results: int


class ExportView(View):
    """Everything that people wrote, and the results it refers to; `import` takes it back."""

    format: Literal["nullscope-export"] = "nullscope-export"
    version: Literal[1] = 1
    notes: list[dict[str, Any]]
    lists: list[dict[str, Any]]
    revisions: list[dict[str, Any]]
    pins: list[dict[str, Any]]
    results: list[dict[str, Any]]
    asked: list[dict[str, Any]]
