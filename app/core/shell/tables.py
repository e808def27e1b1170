"""Query strings, and tables as files: CSV or Parquet by the name's ending."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app.core.shell.session import Refused, refusing


def query_string(query: dict[str, Any]) -> str:
    """`?a=1&b=2` without what was not given."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def write_rows(path: str, rows: list[dict[str, Any]]) -> None:
    """Rows of plain values to a .csv or .parquet file, under a temporary name first."""
    if not rows:
        raise Refused("There are no rows to write.")
    ending = path.rpartition(".")[2].lower()
    if ending not in WRITERS:
        raise Refused(f"{path!r} ends neither in .csv nor in .parquet.")
    from analysis.files import replaced

    with refusing(), replaced(Path(path)) as temporary:
        WRITERS[ending](rows, temporary)


def _csv(rows: list[dict[str, Any]], path: Path) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"csv": _csv, "parquet": _parquet}
