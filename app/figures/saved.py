"""The charts of a stored result: those of the page that it was computed for."""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from pydantic import BaseModel

from app.figures import core, effects, induction
from app.figures import induction_panels as panels
from app.views.core import TraceView
from app.views.effects import DoseView, HeatmapView, JointView, LedgerView
from app.views.induction import AttributionView, HeadAblationView, HeadsView, InductionView, NaturalView
from app.views.permalinks import PermalinkView
from app.views.prompt import ModelFacts, PromptView

# kind -> (its view, its charts). A family adds its own kinds here.
CHARTS: dict[str, tuple[type[BaseModel], dict[str, Callable[[Any], go.Figure]]]] = {
    "heatmap": (HeatmapView, {"heatmap": effects.heatmap}),
    "joint": (JointView, {"joint": effects.joint}),
    "dose": (DoseView, {"dose": effects.dose}),
    "ledger": (LedgerView, {"ledger": effects.ledger}),
    "induction": (InductionView, {"curves": induction.curves, "ranking": induction.ranking}),
    "heads": (HeadsView, {"map": panels.head_map}),
    "attribution": (AttributionView, {"parts": panels.parts, "positions": panels.parts_by_position}),
    "head_ablation": (HeadAblationView, {"groups": panels.groups, "queries": panels.queries}),
    "natural_repeats": (NaturalView, {"aligned": panels.aligned}),
}


def drawn(saved: PermalinkView) -> dict[str, Callable[[], go.Figure]]:
    """Charts by name; none for a kind that is a table only."""
    if saved.trace is not None:
        return {"curves": lambda: core.curves(_as_prompt(saved))}
    view, charts = CHARTS.get(saved.kind, (BaseModel, {}))
    if not charts:
        return {}
    found = view.model_validate(saved.result)
    return {name: (lambda draw=draw: draw(found)) for name, draw in charts.items()}  # type: ignore[misc]


def _as_prompt(saved: PermalinkView) -> PromptView:
    """A trace as the curves read it."""
    facts = ModelFacts(key=saved.model, n_layers=0, d_mlp=0, d_vocab=0, max_tokens=0, starts_with_bos=False)
    trace = TraceView.model_validate(saved.trace)  # the curves ask only for this
    return PromptView(state={}, models=[], examples=[], trace=trace, facts=facts)
