"""Tables and JSON on standard output."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from pydantic import BaseModel

from app.core.column import columns_of, value


def print_json(answer: Any) -> None:
    click.echo(json.dumps(answer, ensure_ascii=True, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; numbers to the right, text to the left."""
    shown = [list(columns), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    right = [all(_numeric(row[i]) for row in shown[1:]) for i in range(len(columns))]
    for row in shown:
        parts = (row[i].rjust(widths[i]) if right[i] else row[i].ljust(widths[i]) for i in range(len(columns)))
        click.echo("  ".join(parts).rstrip())


def print_rows(row: type[BaseModel], rows: Iterable[Any]) -> None:
    """Rows of a view by the columns that its model declares."""
    columns = {key: column for key, column in columns_of(row).items() if column.shell != ""}
    print_table(
        [column.shell or column.title for column in columns.values()],
        [[value(each, key) for key in columns] for each in rows],
    )


def cell(value: Any) -> str:
    """A number to five significant digits, null as a dash, text with everything that could move the cursor escaped."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return escaped(str(value))


def escaped(text: str) -> str:
    """Control, bidirectional and unprintable characters as escapes, so that text cannot steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True
