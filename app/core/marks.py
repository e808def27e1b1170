"""Label and rho of neurons that a page names, as far as the atlas is there."""

from collections.abc import Sequence

from analysis.types import NullscopeError
from app.core.caller import Caller
from app.core.run import ask
from app.core.told import Mark


async def marks_of(caller: Caller, key: str, names: Sequence[str], *, patience: float) -> dict[str, Mark]:
    """By name; none of them where there is no atlas within `patience` seconds, or no such neuron."""
    if not names:
        return {}
    question = caller.questions["neurons"]
    query = {"neurons": ",".join(names), "limit": len(names)}
    try:
        rows = (await ask(caller, question, key, question.request.model_validate(query), patience=patience)).rows
    except NullscopeError:
        return {}
    return {row.neuron: Mark(rho=row.rho, labels=[each.name for each in row.labels if each.holds]) for row in rows}
