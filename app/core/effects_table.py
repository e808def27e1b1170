"""The effects of ablating each last-layer neuron at one token, as columns and rows.

The columns are those that `EffectRow` declares; a column of the same name in the numerics' table is found by itself.
"""

from collections.abc import Mapping
from typing import Any

from analysis.effects import Effects
from analysis.types import NeuronId
from app.core.column import columns_of
from app.core.plain import series
from app.core.table import Columns
from app.core.view import EffectRow

Series = list[float | None]
KEYS = tuple(columns_of(EffectRow))


def columns(effects: Effects, fitted: Mapping[str, Series]) -> Columns:
    """Every column that a row has, under the names that requests use. fitted: those that the table does not hold."""
    n = len(effects.neurons)
    found = {key: fitted[key] if key in fitted else _column(effects, key, n) for key in KEYS if key != "neuron"}
    return {"neuron": effects.neurons.tolist(), **found}


def _column(effects: Effects, key: str, n: int) -> Any:
    """The values under a dotted name; null where there are none (no next token, no token counts)."""
    values: Any = effects
    for name in key.split("."):
        values = None if values is None else getattr(values, name)
    if values is None:
        return [None] * n
    if isinstance(values, float):
        return [values] * n
    return values.tolist() if not values.is_floating_point() else series(values)


def row(columns: Columns, index: int, layer: int) -> EffectRow:
    """One neuron's row; the numbers are those of the columns."""
    found: dict[str, Any] = {"neuron": str(NeuronId(layer, int(columns["neuron"][index] or 0)))}
    for key in KEYS[1:]:
        name, _, part = key.partition(".")
        if part:
            found.setdefault(name, {})[part] = columns[key][index]
        else:
            found[name] = columns[key][index]
    return EffectRow.model_validate(found)
