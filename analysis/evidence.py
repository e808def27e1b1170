"""What a corpus sweep says of each neuron, as the evidence that labels ask for (`analysis.labels`)."""

from __future__ import annotations

from analysis.labels import Evidence
from analysis.sweep import Result

COLUMNS = {
    "te": "total.abs_loss",
    "de": "direct.abs_loss",
    "ln_mediated_fraction": "ln_fraction",
    "frequency_mediated_fraction": "frequency_fraction",
    "mean_abs_d_entropy": "total.abs_entropy",
    "mean_abs_d_kl": "total.abs_kl_unigram",
}


def evidence_of(result: Result) -> dict[str, Evidence]:
    """A sweep's table as evidence, one neuron each; unknown and unreliable figures are left out."""

    def value(name: str, place: int) -> float | None:
        if name not in result.table:
            return None
        if f"{name}.reliable" in result.table and not result.table[f"{name}.reliable"][place]:
            return None
        found = float(result.table[name][place])
        return found if found == found else None

    def intervals(place: int) -> dict[str, tuple[float, float]]:
        return {
            key: (float(result.table[f"{name}.low"][place]), float(result.table[f"{name}.high"][place]))
            for key, name in COLUMNS.items()
            if f"{name}.low" in result.table and value(name, place) is not None
        }

    return {
        str(neuron): Evidence(**{key: value(name, place) for key, name in COLUMNS.items()}, intervals=intervals(place))
        for neuron, place in result.place.items()
    }
