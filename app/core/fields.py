"""Fields of a form or an address read as far as they hold: one that does not is refused, the others stay."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.core.errors import RefusedFieldsError, blamed, validation_message
from app.core.wording import Words

State = TypeVar("State", bound=BaseModel)


def holding(
    kind: type[State], fields: Mapping[str, Any], words: Words | None = None
) -> tuple[State, RefusedFieldsError | None]:
    """(what holds, why the rest does not). A refused field is at its default, so it cannot come back with the state.

    Where a rule over several fields is broken, all of them are refused. words: what the page calls a field.
    """
    try:
        return kind.model_validate(fields), None
    except ValidationError as error:
        wrong = set(blamed(error.errors())).intersection(fields)
        kept = {name: value for name, value in fields.items() if wrong and name not in wrong}
        state, _ = holding(kind, kept)
        return state, RefusedFieldsError(validation_message(error.errors(), words=words), tuple(wrong or fields))
