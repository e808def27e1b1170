"""A table of aligned columns, filtered, sorted and cut into pages: the same rules for every table of the program."""

from collections.abc import Mapping, Sequence

import numpy as np

from app.core.request import Order

Value = float | int | bool | None
Columns = Mapping[str, Sequence[Value] | np.ndarray]


def select(
    columns: Columns, *, bounds: Mapping[str, float], sort: str, order: Order, offset: int, limit: int
) -> tuple[int, list[int]]:
    """(rows that pass the bounds, indices of the page asked for). Nulls pass no bound and sort last; ties by index.

    bounds: `min_<column>` and `max_<column>`. Index order is the neurons' own, so ties are broken by neuron. A null is
    None or NaN.
    """
    ranked = _values(columns, sort)
    passing = np.ones(len(ranked), dtype=bool)
    for key, bound in bounds.items():
        values = _values(columns, key[4:])
        passing &= values >= bound if key.startswith("min") else values <= bound
    kept = passing.nonzero()[0]
    rank = ranked[kept]
    rank = rank if order == "asc" else -np.abs(rank) if order == "abs_desc" else -rank
    page = rank.argsort(kind="stable")[offset : offset + limit]  # numpy sorts NaN last
    return len(kept), kept[page].tolist()


def _values(columns: Columns, name: str) -> np.ndarray:
    return np.asarray(columns[name], dtype=np.float64)
