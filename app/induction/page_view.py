"""The induction page and its panels: the form's state around one answer of the API."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from app.core.example_files import ExampleRef
from app.core.jobs_view import AnswerJob
from app.core.view import ErrorBody, View
from app.induction.view import HeadAblationView


class SavedView(View):
    """Whether the numbers of a permalink are still those that were stored."""

    hash: str
    verdict: str
    sentence: str


class LabView(View):
    """found: the API's answer of the panel; None with a problem, or where there is nothing to ask yet."""

    state: dict[str, Any]
    models: tuple[str, ...] = ()
    found: Any = None
    job: AnswerJob[HeadAblationView] | None = None
    problem: ErrorBody | None = None
    code: str | None = None
    saved: SavedView | None = None
    example: ExampleRef | None = Field(None, description="The worked example that this is, computed beforehand.")

    def csv_rows(self) -> Iterator[dict[str, Any]]:
        """The table that the state names, else the answer's own."""
        found = self.found
        if found is None:
            return
        if table := self.state.get("table"):
            yield from found.tables().get(table, ())
        else:
            yield from found.csv_rows()
