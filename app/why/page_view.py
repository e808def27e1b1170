"""The Why page: the form as it stands, the prediction taken apart, and the split along the text."""

from typing import Any

from app.core.view import ErrorBody, TraceView, View
from app.why.view import CircuitView, WhyCompareView, WhyTextView, WhyView


class WhyPageView(View):
    state: dict[str, Any]
    models: list[str]
    trace: TraceView | None = None
    why: WhyView | None = None
    along: WhyTextView | None = None
    circuit: CircuitView | None = None
    compared: WhyCompareView | None = None
    python: str = ""
    python_along: str = ""
    python_circuit: str = ""
    python_compared: str = ""
    problem: ErrorBody | None = None

    def csv_rows(self) -> list[dict[str, Any]]:
        """The parts of the prediction, the split along the text, the circuit, or the comparison."""
        tables = {"along": self.along, "circuit": self.circuit, "compared": self.compared}
        shown = tables.get(str(self.state.get("table")), self.why)
        return [] if shown is None else shown.csv_rows()
