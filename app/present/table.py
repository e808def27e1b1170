"""A table of aligned columns, filtered, sorted and cut into pages: the same rules for every table of the program."""

from collections.abc import Mapping, Sequence

from app.requests.core import Order

Value = float | int | bool | None
Columns = Mapping[str, Sequence[Value]]


def select(
    columns: Columns, *, bounds: Mapping[str, float], sort: str, order: Order, offset: int, limit: int
) -> tuple[int, list[int]]:
    """(rows that pass the bounds, indices of the page asked for). Nulls pass no bound and sort last; ties by index.

    bounds: `min_<column>` and `max_<column>`. Index order is the neurons' own, so ties are broken by neuron.
    """
    kept = range(len(columns[sort]))
    passing = [i for i in kept if all(_passes(columns[key[4:]][i], key[:3], limit_) for key, limit_ in bounds.items())]
    known = [i for i in passing if columns[sort][i] is not None]
    known.sort(key=lambda i: _rank(columns[sort][i], order))  # stable, so ties stay in order
    nulls = [i for i in passing if columns[sort][i] is None]
    return len(passing), (known + nulls)[offset : offset + limit]


def _passes(value: Value, end: str, bound: float) -> bool:
    return value is not None and (value >= bound if end == "min" else value <= bound)


def _rank(value: Value, order: Order) -> float:
    assert value is not None
    return value if order == "asc" else -abs(value) if order == "abs_desc" else -value
