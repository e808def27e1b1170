"""What the literature says of particular models: named neurons, and the values that `nullscope reproduce` checks.

Sources: Stolfo et al. 2024 (arXiv 2406.16254) and its released code; Gurnee et al. 2024 (arXiv 2401.12181); Zahrivyi
2026 (the lists by v). METHODS section 7. Keys are those of the registry, or the name of a local folder of that model,
in small letters.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.atlas import Atlas
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.nullspace import rho
from analysis.types import NeuronId, NotFoundError
from analysis.weights import Vocabulary

ENTROPY, FREQUENCY = "entropy neuron (paper)", "token-frequency neuron (paper)"

KNOWN: dict[str, dict[str, str]] = {
    "gpt2": dict.fromkeys(("11.584", "11.2123", "11.2870", "11.2378", "11.1611", "11.2910"), ENTROPY),
    "pythia-410m": {
        **dict.fromkeys(("23.417", "23.87", "23.730", "23.2017", "23.3412"), FREQUENCY),
        **dict.fromkeys(("23.1829", "23.1332", "23.2455", "23.3562", "23.2756", "23.2362"), ENTROPY),
    },
    "llama-2-7b": {"31.3228": ENTROPY},
    "pythia-1.4b": {"23.5104": ENTROPY},
    "phi-1.5": {"23.1121": ENTROPY},
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A published number beside what this program finds."""

    what: str
    published: float
    found: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return abs(self.found - self.published) <= self.tolerance * abs(self.published)


GPT2_WEIGHTS: dict[str, tuple[float, float, float]] = {  # norm, LogitVar, rho with k = 40
    "11.584": (10.9398, 2.456e-5, 0.9921),
    "11.2123": (8.9179, 6.951e-5, 0.9810),
    "11.2870": (10.7106, 8.561e-5, 0.9778),
    "11.2378": (12.9508, 1.2256e-4, 0.9731),
    "11.1611": (6.4662, 8.444e-5, 0.9650),
    "11.2910": (5.4897, 1.0181e-4, 0.9606),
}
WEIGHTS: dict[str, tuple[int, dict[str, tuple[float | None, float | None, float | None]]]] = {
    "gpt2": (40, dict(GPT2_WEIGHTS)),
    "pythia-1.4b": (48, {"23.5104": (2.82, None, 0.989)}),
    "phi-1.5": (40, {"23.1121": (3.751, 1.64e-5, 0.9925)}),
}
KNEES: dict[str, int] = {"gpt2": 755}
LEADERS: dict[str, tuple[str, ...]] = {"gpt2": tuple(GPT2_WEIGHTS)}
"""The top of the last layer by norm/LogitVar, in this order."""

BY_V: dict[str, tuple[int, ...]] = {
    "gpt2": (584, 2123, 1611, 2870, 2910),
    "gpt2-medium": (3144, 1108, 1083, 2744, 1312),
    "gpt2-large": (1997, 3695, 286, 4537, 4924),
    "distilgpt2": (584, 2870, 2123, 1611, 2910),
    "pythia-410m": (1332, 324, 1829, 2455, 506),
    "pythia-1b": (6756, 651, 750, 5599, 6731),
    "pythia-1.4b": (5104, 4132, 7385, 3972, 5265),
    "gpt-neo-125m": (109, 403, 1693, 2231, 2063),
    "bloom-560m": (708, 1979, 1294, 3479, 1076),
    "qwen2.5-0.5b": (4861, 4391, 537, 3007, 762),
    "opt-125m": (2288, 1687, 864, 1816, 2648),
}
"""The top five of the last layer by v = 1 / (1 + ‖w W_U‖ / ‖w‖), in this order."""

UNIGRAM_ENTROPY: dict[str, float] = {"gpt2": 7.56967, "pythia-410m": 7.92109, "pythia-1.4b": 7.92109, "phi-2": 7.66079}

WEIGHT_TOLERANCE, SHARE_TOLERANCE = 2e-3, 5e-3  # the published numbers have four or five digits


def reproduce(model: Model, atlas: Atlas, unigram: Unigram | None) -> list[Finding]:
    """Every published value of this model beside the computed one. NotFoundError where the literature gives none.

    LogitVar and v follow the published convention here: padded ids are kept.
    """
    key = model.key.lower()
    if key not in WEIGHTS and key not in BY_V:
        known = ", ".join(dict.fromkeys((*WEIGHTS, *BY_V)))
        raise NotFoundError(
            f"Nothing is published for {model.key}.",
            code="nothing_published",
            hint=f"There is for: {known}; a local folder of one of these goes by the same name.",
        )
    vocabulary = Vocabulary.of(model.readout, padded=True)
    findings = _weights(model, atlas, vocabulary) if key in WEIGHTS else []
    if key in KNEES and atlas.spectrum.knee is not None:
        findings.append(Finding("knee of the spectrum (index)", float(KNEES[key]), float(atlas.spectrum.knee), 0.0))
    if key in LEADERS:
        findings += _leaders(model, atlas)
    if key in BY_V:
        findings += _by_v(model, vocabulary)
    if unigram is not None and key in UNIGRAM_ENTROPY:
        findings.append(Finding("entropy of the token counts", UNIGRAM_ENTROPY[key], unigram.entropy, 1e-5))
    return findings


def _by_v(model: Model, vocabulary: Vocabulary) -> list[Finding]:
    """The published neurons' places by v among those of the last layer."""
    layer, listed = model.last_layer, BY_V[model.key.lower()]
    for index in listed:
        model.check_neuron(NeuronId(layer, index))
    rows = model.write_rows(layer).double()
    order = vocabulary.v_score(rows / rows.norm(dim=1, keepdim=True)).argsort(descending=True).tolist()
    return [
        Finding(f"{layer}.{index} place by v", float(place), float(order.index(index) + 1), 0.0)
        for place, index in enumerate(listed, 1)
    ]


def _weights(model: Model, atlas: Atlas, vocabulary: Vocabulary) -> list[Finding]:
    k, neurons = WEIGHTS[model.key.lower()]
    ids = [NeuronId.parse(name) for name in neurons]
    for neuron in ids:
        model.check_neuron(neuron)
    found = []
    for neuron, name in zip(ids, neurons, strict=True):
        row = model.write_rows(neuron.layer)[neuron.index : neuron.index + 1].double()
        values = (
            float(row.norm()),
            float(vocabulary.logit_var(row / row.norm())),
            float(rho(row, atlas.spectrum.basis(atlas.spectrum.chosen(k)))),
        )
        parts = zip(("norm", "LogitVar", f"rho({k})"), neurons[name], values, strict=True)
        for what, published, value in parts:
            if published is not None:
                tolerance = SHARE_TOLERANCE if what == "LogitVar" else WEIGHT_TOLERANCE
                found.append(Finding(f"{name} {what}", published, value, tolerance))
    return found


def _leaders(model: Model, atlas: Atlas) -> list[Finding]:
    """The published neurons' places by norm/LogitVar."""
    table, layer = atlas.table, model.last_layer
    order = (table.norm[layer] / table.logit_var[layer]).argsort(descending=True).tolist()
    return [
        Finding(f"{name} place by norm/LogitVar", float(place), float(order.index(NeuronId.parse(name).index) + 1), 0.0)
        for place, name in enumerate(LEADERS[model.key.lower()], 1)
    ]
