"""The induction page and its panels: the form's state around one answer of the API."""

from collections.abc import Iterator
from typing import Any

from app.views.core import ErrorBody, View
from app.views.induction import AblationJobView, InductionView


class LabView(View):
    """found: the API's answer of the panel; None with a problem, or where there is nothing to ask yet."""

    state: dict[str, Any]
    models: tuple[str, ...] = ()
    found: Any = None
    job: AblationJobView | None = None
    problem: ErrorBody | None = None
    code: str | None = None

    def csv_rows(self) -> Iterator[dict[str, Any]]:
        """The table that the state names, else the answer's own."""
        found = self.found
        if found is None:
            return
        table = self.state.get("table")
        if isinstance(found, InductionView) and table:
            clip = found.clip
            tables = {"ranking": found.ranking, "controls": clip and clip.controls, "tokens": clip and clip.points}
            yield from (row.model_dump(mode="json") for row in tables[table] or ())
        elif hasattr(found, "csv_rows"):
            yield from found.csv_rows()
        else:
            yield from (row.model_dump(mode="json") for row in found.rows)

