"""The page on which the model writes: the form as it stands, and what was written where the browser runs no script."""

from typing import Any

from pydantic import Field

from app.core.jobs_view import AnswerJob
from app.core.view import ErrorBody, TurnView, View
from app.generate.dial_view import DialView
from app.generate.view import GenerateView


class WritePageView(View):
    state: dict[str, Any]
    models: list[str]
    turns: list[TurnView] | None = Field(None, description="As on the prompt page; null where no model says so yet.")
    answer: GenerateView | None = None
    python: str = ""
    dial: DialView | None = None
    python_dial: str = ""
    job: AnswerJob[DialView] | None = Field(None, description="The dials as a job.")
    problem: ErrorBody | None = None

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a token; of dials, a text."""
        shown = self.dial or self.answer
        return [] if shown is None else shown.csv_rows()
