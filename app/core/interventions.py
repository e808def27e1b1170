"""Interventions as people write them in one box, compactly, positions inclusive:

3.17:mean   3.20:zero@4-9   3.5:value=1.5@3,7   3.8:scale=0.5   3.9:clip=0..2   L3H2:bos   !3.17:mean (paused)
"""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from analysis.grammar import write_number, write_positions
from analysis.types import InputError, Span
from app.core.errors import validation_message
from app.core.grammar import read_intervention
from app.core.request import AnyIntervention, HeadInterventionRequest, InterventionRequest, SpanRequest
from app.core.wording import Words

Request = TypeVar("Request", bound=BaseModel)


def parse_intervention(item: str) -> tuple[bool, AnyIntervention]:
    """(active, intervention) from its compact form."""
    body = read_intervention(item.removeprefix("!"))
    kind: type[AnyIntervention] = HeadInterventionRequest if "head" in body else InterventionRequest
    return not item.startswith("!"), requested(kind, **body)


def write_intervention(item: AnyIntervention) -> str:
    """The compact form of an intervention; `parse_intervention` reads it back."""
    args = ""
    if isinstance(item, HeadInterventionRequest):
        pass
    elif item.mode == "clip":
        ends = ("" if end is None else write_number(end) for end in (item.min, item.max))
        args = f"={'..'.join(ends)}"
    elif item.value is not None:
        args = f"={write_number(item.value)}"
    return f"{target_name(item)}:{item.mode}{args}{_at(item)}"


def _at(item: AnyIntervention) -> str:
    return "" if item.positions is None else f"@{written_positions(item)}"


def written_positions(item: AnyIntervention) -> str:
    """Where it holds: `4-9`, `3,7`, or `all`."""
    where = item.positions
    if isinstance(where, SpanRequest):
        return write_positions(Span(where.start, where.stop))
    return write_positions(None if where is None else tuple(where))


def target_name(item: AnyIntervention) -> str:
    """`3.17` for a neuron, `L3H2` for a head."""
    return "L{}H{}".format(*item.head.split(".")) if isinstance(item, HeadInterventionRequest) else item.neuron


def place_of(item: str) -> str:
    """The neuron and the positions of a compact item, whatever happens there."""
    try:
        _, read = parse_intervention(item)
    except InputError:
        return item
    return f"{target_name(read)}@{written_positions(read)}"


def requested(kind: type[Request], words: Words | None = None, /, **values: Any) -> Request:
    """A request of these values; InputError in place of pydantic's list. words: what the page calls a field."""
    try:
        return kind.model_validate(json.loads(json.dumps(values, default=lambda model: model.model_dump())))
    except ValidationError as error:
        raise InputError(validation_message(error.errors(), words=words), code="invalid_request") from None
