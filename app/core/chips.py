"""An intervention in the words of a chip."""

from pydantic import Field

from analysis.grammar import printed
from analysis.types import InputError
from app.core.interventions import parse_intervention, target_name, write_intervention
from app.core.request import AnyIntervention, HeadInterventionRequest, InterventionRequest, SpanRequest
from app.core.view import View

HEAD_LABELS = {"bos": "reads BOS only", "mean": "→ its mean here", "zero": "→ 0"}


class Chip(View):
    """An intervention as the page names it."""

    item: str
    neuron: str = Field(description="What it is on: a neuron, or a head written L3H2.")
    label: str
    active: bool
    head: str | None = Field(None, description="The head as layer.head; null on a neuron.")
    problem: str | None = Field(None, description="Why it is not applied here; null: it is, unless it is paused.")


def chip(item: str, problem: str | None = None) -> Chip:
    """`item` as it is written in the state, whether or not it can be read."""
    try:
        active, intervention = parse_intervention(item)
    except InputError as error:
        name, _, rest = item.lstrip("!").partition(":")
        return Chip(item=item, neuron=name[:24], label=rest[:24], active=False, problem=problem or error.message)
    item, name, where = write_intervention(intervention), target_name(intervention), _where(intervention)
    if isinstance(intervention, HeadInterventionRequest):
        label, head = HEAD_LABELS[intervention.mode], intervention.head
        return Chip(item=item, neuron=name, label=label + where, active=active, head=head, problem=problem)
    what = {
        "mean": "→ mean",
        "zero": "→ 0",
        "value": f"→ {_short(intervention.value)}",
        "scale": f"× {_short(intervention.value)}",
        "clip": _clip(intervention),
    }[intervention.mode]
    return Chip(item=item, neuron=name, label=f"{what}{where}", active=active, problem=problem)


def _clip(item: InterventionRequest) -> str:
    low = "" if item.min is None else f"≥ {_short(item.min)}"
    high = "" if item.max is None else f"≤ {_short(item.max)}"
    return " ".join(part for part in ("clip", low, high) if part)


def _short(value: float | None) -> str:
    return "" if value is None else printed(value, ".4g")


def _where(item: AnyIntervention) -> str:
    match item.positions:
        case None:
            return ""
        case SpanRequest(start=start, stop=stop):
            return f" at {start}" if stop == start + 1 else f" at {start}–{stop - 1}"
        case positions:
            return " at " + ", ".join(map(str, positions))
