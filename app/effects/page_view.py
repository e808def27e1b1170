"""The effects page: the form as it stands and the panel that is open."""

from typing import Any

from pydantic import Field

from app.core.view import ErrorBody, TraceView, View
from app.effects.view import DoseView, HeatmapView, JointView, LedgerView, LensView


class EffectsPageView(View):
    state: dict[str, Any]
    models: list[str]
    trace: TraceView | None = Field(None, description="The strip that a position is chosen from.")
    heatmap: HeatmapView | None = None
    run: str | None = Field(None, description="Name of the heat map while it is being computed.")
    opens: dict[str, str] = Field({}, description="What a cell of the heat map opens: fields of the prompt page.")
    joint: JointView | None = None
    dose: DoseView | None = None
    ledger: LedgerView | None = None
    lens: LensView | None = None
    suggested: list[str] = Field([], description="Neurons with the largest change of entropy at the token.")
    python: str = ""
    problem: ErrorBody | None = None

    @property
    def position(self) -> str:
        """The token that the open panel is about; of the panels about every token, the chosen one, if any."""
        panel = self.joint or self.dose or self.ledger
        return str(panel.clean.position if panel else self.state["pos"])

    def csv_rows(self) -> list[dict[str, Any]]:
        """The open panel's table."""
        shown = self.heatmap or self.joint or self.dose or self.ledger
        if self.lens is not None:
            return self.lens.csv_rows()
        if shown is None:
            return []
        return shown.csv_rows() if isinstance(shown, HeatmapView) else [row.model_dump() for row in shown.rows]
