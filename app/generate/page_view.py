"""The page on which the model writes: the form as it stands, and what was written where the browser runs no script."""

from typing import Any

from app.core.view import ErrorBody, View
from app.generate.view import GenerateView


class WritePageView(View):
    state: dict[str, Any]
    models: list[str]
    answer: GenerateView | None = None
    python: str = ""
    problem: ErrorBody | None = None

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a token."""
        return [] if self.answer is None else self.answer.csv_rows()
