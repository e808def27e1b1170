"""A column of a table as a value: from it follow head, cell, filter, sort key, CSV column, command output and glossary.

A column stands on the field of the row that holds it, so that a number is declared once:

    class EffectRow(View):
        activation: Annotated[float, Column("Activation", "n at this token")]
        d_entropy: Annotated[Parts, Column("Δ entropy", "Change of the entropy", unit="nats", form="signed")]

    columns_of(EffectRow)     # {"activation": Column(...), "d_entropy.total": Column(...), ...}

A field that holds a row of its own (`Parts`) gives one column for each of its fields, under a dotted key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Form = Literal["number", "signed", "percent", "text", "changes"]


@dataclass(frozen=True)
class Column:
    """How one number of a row is told.

    title: its head. help: one sentence. unit: of the number; nothing for a ratio. digits: after the point. form: how
    it is read: signed for a change, percent for a share of one. shell: its head in the shell's table where that is
    another; empty: not printed there. parts: of a number with parts, the heads of those that are printed there. page:
    whether the page's table shows it. short: its head among the other parts of the same number.
    """

    title: str
    help: str = ""
    unit: str = ""
    digits: int = 3
    form: Form = "number"
    shell: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    page: bool = True
    short: str = ""

    @property
    def first_order(self) -> str:
        """How a table is sorted at the first click: the largest change of either sign, else the largest value."""
        return "abs_desc" if self.form == "signed" else "asc" if self.form == "text" else "desc"


@cache
def columns_of(row: type[BaseModel]) -> Mapping[str, Column]:
    """Every column of a row model by its (dotted) key, in the order of the fields; some fields are no columns."""
    return dict(_columns(row))


def _columns(row: type[BaseModel]) -> Iterator[tuple[str, Column]]:
    for name, given in row.model_fields.items():
        column = next((item for item in given.metadata if isinstance(item, Column)), None)
        if column is None:
            continue
        inner = _model_of(given)
        if inner is None:
            yield name, column
        for key, part in columns_of(inner).items() if inner else ():
            yield f"{name}.{key}", _part(column, part, column.parts.get(key, ""))


def _part(whole: Column, part: Column, shell: str) -> Column:
    """A part of a number (the direct effect on the loss): it has the whole's unit and form, and both titles."""
    title = f"{whole.title}, {part.title}" if part.title else whole.title
    return replace(
        whole, title=title, help=part.help or whole.help, shell=shell, parts={}, page=part.page, short=part.title
    )


def _model_of(given: FieldInfo) -> type[BaseModel] | None:
    kinds = (given.annotation, *get_args(given.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def value(row: Any, key: str) -> Any:
    """The number under a dotted key, of a model or of its JSON; None where a part is missing."""
    for name in key.split("."):
        if row is None:
            return None
        row = row[name] if isinstance(row, Mapping) else getattr(row, name)
    return row
