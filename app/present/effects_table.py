"""The effects of ablating each last-layer neuron at one token, as rows."""

from collections.abc import Sequence

from analysis.effects import Effects
from analysis.effects import Parts as PartArrays
from analysis.types import NeuronId
from app.present.plain import series
from app.present.table import Columns
from app.requests.core import PARTS
from app.views.core import EffectRow, Parts

METRICS = ("d_entropy", "d_loss", "d_kl_unigram")
Series = list[float | None]


def columns(effects: Effects, temperature: Series, share: Series, left: Series) -> Columns:
    """Every column that a row has, under the names that requests use. left: the KL that the temperature leaves."""
    found: dict[str, Sequence[float | int | bool | None]] = {
        "neuron": effects.neurons.tolist(),
        "activation": series(effects.activation),
        "baseline": series(effects.baseline),
        "ln_scale_before": [effects.ln_scale_before] * len(effects.neurons),
        "ln_scale_after": series(effects.ln_scale_after),
        "top1_changes": effects.top1_changes.tolist(),
        "temperature": temperature,
        "temperature_share": share,
        "kl": series(effects.kl),
        "temperature_kl": left,
    }
    for metric in METRICS:
        for part in PARTS:
            found[f"{metric}.{part}"] = _part(getattr(effects, metric), part, len(effects.neurons))
    return found


def _part(parts: PartArrays | None, name: str, n: int) -> Series:
    values = None if parts is None else getattr(parts, name)
    return [None] * n if values is None else series(values)


def row(columns: Columns, index: int, layer: int) -> EffectRow:
    """One neuron's row; the numbers are those of the columns."""
    plain = {name: values[index] for name, values in columns.items() if "." not in name and name != "neuron"}
    parts = {metric: Parts(**{part: columns[f"{metric}.{part}"][index] for part in PARTS}) for metric in METRICS}
    return EffectRow(neuron=str(NeuronId(layer, int(columns["neuron"][index] or 0))), **plain, **parts)
