"""The rows of a view as one flat table: columns, CSV, Parquet."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel


def table(view: BaseModel) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) of what CSV would hold."""
    flat, columns = _table_of(view)
    return columns, [[row.get(name) for name in columns] for row in flat]


def flat_rows(view: BaseModel) -> list[dict[str, Any]]:
    """The rows of its table, nested keys as dotted ones."""
    return _table_of(view)[0]


def as_csv(view: BaseModel, *, raw: bool = False) -> str:
    """The view's table: `csv_rows()` where it has one, else its `rows`; nested keys become dotted columns.

    Text that a spreadsheet would run as a formula has an apostrophe before it, unless `raw`.
    """
    flat, columns = _table_of(view)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows({name: _cell(value, raw) for name, value in row.items()} for row in flat)
    return out.getvalue()


def as_parquet(view: BaseModel) -> bytes:
    """The same table; numbers stay numbers, a column of several kinds becomes text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat, columns = _table_of(view)
    out = io.BytesIO()
    pq.write_table(pa.table({name: _column([row.get(name) for row in flat]) for name in columns}), out)
    return out.getvalue()


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    given = [value for value in values if value is not None]
    if any(isinstance(value, float) for value in given) and all(type(value) in (int, float) for value in given):
        return pa.array(values, pa.float64())
    if len({type(value) for value in given}) <= 1 and not any(isinstance(value, list | dict) for value in given):
        return pa.array(values)
    return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _table_of(view: BaseModel) -> tuple[list[dict[str, Any]], list[str]]:
    """Flat rows, and the columns in the order of their first appearance."""
    flat = [dict(_flatten(row)) for row in _rows_of(view)]
    return flat, list(dict.fromkeys(name for row in flat for name in row))


def _rows_of(view: BaseModel) -> Any:
    return view.csv_rows() if hasattr(view, "csv_rows") else view.model_dump(mode="json").get("rows", [])


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _cell(value: Any, raw: bool) -> Any:
    if not raw and isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    if isinstance(value, Iterable) and not isinstance(value, str):
        return json.dumps(value)
    return value
