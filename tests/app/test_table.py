"""Tables filtered, sorted and cut into pages, against the obvious version."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.atlas import charts as figures
from app.atlas.view import Points
from app.core.table import select
from tests.tolerance import of_sum

CELLS = st.none() | st.integers(-3, 3) | st.floats(-1e9, 1e9)
SIGN = {"asc": lambda x: x, "desc": lambda x: -x, "abs_desc": lambda x: -abs(x)}


def obvious(columns: Any, bounds: Any, sort: str, order: str, offset: int, limit: int) -> tuple[int, list[int]]:
    def passes(i: int) -> bool:
        values = [(columns[key[4:]][i], key[:3], bound) for key, bound in bounds.items()]
        return all(v is not None and (v >= bound if end == "min" else v <= bound) for v, end, bound in values)

    passing = [i for i in range(len(columns[sort])) if passes(i)]
    known = [i for i in passing if columns[sort][i] is not None]
    known.sort(key=lambda i: SIGN[order](columns[sort][i]))
    return len(passing), (known + [i for i in passing if columns[sort][i] is None])[offset : offset + limit]


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=30),
    bounds=st.dictionaries(st.sampled_from(["min_a", "max_a", "min_b", "max_b"]), st.floats(-3, 3), max_size=2),
    order=st.sampled_from(sorted(SIGN)),
    offset=st.integers(0, 5),
    limit=st.integers(1, 40),
)
def test_rows_are_selected_as_the_obvious_version_does(
    rows: Any, bounds: Any, order: Any, offset: int, limit: int
) -> None:
    columns = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}
    asked = {"bounds": bounds, "sort": "a", "order": order, "offset": offset, "limit": limit}
    expected = obvious(columns, **asked)
    assert select(columns, **asked) == expected
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    assert select(arrays, **asked) == expected


def test_a_large_map_is_a_figure_that_plotly_accepts() -> None:
    """It is written without plotly.py on a request; here plotly.py checks every property and value of it."""
    n = figures.WEBGL_FROM + 1
    for axes, count in ((("norm", "logit_var", "rho"), n), (("rho", "skew", "frequency_alignment"), 40)):
        points = _points(count)
        view: Any = SimpleNamespace(points=points, state=dict(zip(("x", "y", "color"), axes, strict=True)))
        drawn = figures.neuron_map(view)
        checked = go.Figure(json.loads(drawn.to_json()))
        kinds = {trace.type for trace in checked.data if trace.mode == "markers"}
        assert kinds == ({"scattergl"} if count == n else {"scatter"})
        neurons = next(trace for trace in checked.data if trace.name == "neurons")
        assert list(neurons.customdata) == points.neuron
        x = np.frombuffer(base64.b64decode(neurons.x["bdata"]), np.dtype(neurons.x["dtype"]))
        np.testing.assert_allclose(x, np.array(points.x, dtype=np.float64), rtol=of_sum(1, torch.float32))


def _points(n: int) -> Points:
    values = [1 + (i % 97) / 97 for i in range(n)]
    return Points(
        neuron=[f"1.{i}" for i in range(n)],
        x=values,
        y=values[::-1],
        color=[None, *values[1:]],
        size=values,
        labels={"1.3": "entropy,prediction", "1.4": "entropy"},
        known={"1.3": "entropy"},
        control_x=values[:9],
        control_y=values[:9],
        x_chance=1.5,
        y_chance=1.5,
    )
