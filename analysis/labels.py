"""What a neuron is called, and why: rules over its columns, each condition with its threshold and its value.

    entropy          writes into the null space: LogitVar below random directions', large rho (paper section 3)
    token-frequency  writes along the frequency direction (paper section 4)
    prediction       raises a few tokens: kurtosis of the cosines above 10, skew > 0 (Gurnee et al. 2024, arXiv
                     2401.12181), both beyond random directions'
    suppression      lowers a few tokens: the same with skew < 0
    partition        splits the vocabulary in two broad groups: large variance of the cosines, kurtosis low

Absolute thresholds are the sources' own, and hold beside those that random directions of the same norms give; the
layer's own distribution is no measure, for in a real model it may be unusual as a whole. rho is that of the larger null
space of two, the one in use and 1 % of d_model: a knee may be one outlying singular value.

Weights suggest a label, a sweep decides: the label rests on "weights only" until a sweep has measured the neuron, and
then needs both. A norm above the layer's median speaks for an entropy neuron but is not required: it fails in
Llama-3 and Mistral. `benchmarks.labels` measures hits and false alarms.

A condition that cannot be checked does not hold: a value that is unknown (NaN), a figure of the sweep that is missing
or unreliable, a threshold that follows from an unknown chance or median.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LabelName = Literal["entropy", "token-frequency", "prediction", "suppression", "partition"]
LABELS: tuple[LabelName, ...] = ("entropy", "token-frequency", "prediction", "suppression", "partition")
Basis = Literal["weights only", "weights and sweep"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Every number in the rules. ``x median``: of the layer; ``x chance``: times the largest (of LogitVar the least) of
    its random controls."""

    entropy_rho: float = 0.7  # about half of the squared norm; the published ones have 0.96 to 0.99
    entropy_rho_chance: float = 1.15  # x chance
    entropy_logit_var: float = 0.7  # x chance, the least; SmolLM2's have 0.57 and 0.58, Gemma's 0.08
    entropy_norm: float = 1.0  # x median; speaks for, not required
    frequency_alignment: float = 0.5
    frequency_alignment_chance: float = 1.15  # x chance
    frequency_alignment_median: float = 3.0  # x median of its absolute value: where all are aligned, none stands out
    kurtosis: float = 10.0  # Gurnee et al. 2024
    kurtosis_chance: float = 1.5  # x chance
    skew_chance: float = 1.0  # x chance
    partition_logit_var: float = 3.0  # x median
    partition_kurtosis: float = 4.0
    ln_mediated: float = 0.2
    frequency_mediated: float = 0.3
    effect: float = 2.0  # x median of the swept neurons' mean abs dH (entropy) or mean abs dKL (token-frequency)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a corpus sweep found for one neuron (METHODS section 3). ``intervals``: column name to (low, high).

    None: unknown or unreliable; it never counts for a label.
    """

    te: float | None
    de: float | None
    ln_mediated_fraction: float | None
    frequency_mediated_fraction: float | None
    mean_abs_d_entropy: float | None
    mean_abs_d_kl: float | None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the rules read of one layer. chance_*: the largest absolute value among random directions, of LogitVar the
    least. k: dimension of the null space that rho is of."""

    norm: Float[Tensor, " n"]
    logit_var: Float[Tensor, " n"]
    skew: Float[Tensor, " n"]
    kurtosis: Float[Tensor, " n"]
    rho: Float[Tensor, " n"]
    frequency_alignment: Float[Tensor, " n"]
    chance_rho: float
    chance_alignment: float
    chance_logit_var: float
    chance_skew: float
    chance_kurtosis: float
    k: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a rule for all neurons of a layer. holds: where it does, never where it is not known; known: where
    there is a value and a threshold to judge by."""

    name: str
    text: str
    threshold: float
    values: Float[Tensor, " n"]
    holds: Bool[Tensor, " n"]
    required: bool = True
    causal: bool = False

    @property
    def known(self) -> Bool[Tensor, " n"]:
        return ~self.values.isnan() & (not math.isnan(self.threshold))


@dataclass(frozen=True, slots=True)
class Label:
    """A rule on one layer: its conditions, where all required ones hold, and what that rests on.

    swept: the neurons that a sweep has measured, whether or not what it found is known and reliable.
    """

    name: LabelName
    conditions: tuple[Condition, ...]
    swept: Bool[Tensor, " n"]

    @property
    def causal(self) -> bool:
        """Whether the rule asks a sweep at all."""
        return any(condition.causal for condition in self.conditions)

    @property
    def suggested(self) -> Bool[Tensor, " n"]:
        """What the weights say alone: all required conditions on them hold."""
        return self._all(causal=False)

    @property
    def holds(self) -> Bool[Tensor, " n"]:
        """All required conditions hold; the causal ones are asked of every neuron that a sweep has measured."""
        return self.suggested & (self._all(causal=True) | ~self.swept)

    def _all(self, *, causal: bool) -> Bool[Tensor, " n"]:
        asked = [each.holds for each in self.conditions if each.required and each.causal == causal]
        return torch.stack(asked).all(0) if asked else torch.ones_like(self.conditions[0].holds)

    def basis(self, index: int) -> Basis:
        return "weights and sweep" if self.causal and bool(self.swept[index]) else "weights only"


def assign(
    columns: Columns, *, thresholds: Thresholds | None = None, evidence: Mapping[int, Evidence] | None = None
) -> tuple[Label, ...]:
    """All labels of one layer. evidence: by index in the layer, for the neurons a sweep has measured."""
    t, c = thresholds or Thresholds(), columns
    found = _Swept.of(evidence or {}, len(c.norm))
    rules: dict[LabelName, tuple[Condition, ...]] = {
        "entropy": (*_entropy(c, t), *found.causal("ln_mediated", "d_entropy", t.ln_mediated, t.effect)),
        "token-frequency": (
            *_frequency(c, t),
            *found.causal("frequency_mediated", "d_kl", t.frequency_mediated, t.effect),
        ),
        **_by_tokens(c, t),
    }
    return tuple(Label(name, conditions, found.measured) for name, conditions in rules.items())


def _by_tokens(c: Columns, t: Thresholds) -> dict[LabelName, tuple[Condition, ...]]:
    """The rules on the shape of a neuron's cosines with the tokens."""
    kurtosis = _above(
        "kurtosis",
        f"kurtosis of the cosines above {t.kurtosis:g} and {t.kurtosis_chance:g} x chance",
        c.kurtosis,
        _strictest(t.kurtosis, t.kurtosis_chance * c.chance_kurtosis),
    )
    skew, beyond = _strictest(0.0, t.skew_chance * c.chance_skew), f"{t.skew_chance:g} x chance"
    spread = f"LogitVar above {t.partition_logit_var:g} x the layer's median"
    return {
        "prediction": (kurtosis, _above("skew", f"skew above {beyond}", c.skew, skew)),
        "suppression": (kurtosis, _below("skew", f"skew below -{beyond}", c.skew, -skew)),
        "partition": (
            _above("logit_var", spread, c.logit_var, t.partition_logit_var * median(c.logit_var)),
            _below("kurtosis", f"kurtosis below {t.partition_kurtosis:g}", c.kurtosis, t.partition_kurtosis),
        ),
    }


def _entropy(c: Columns, t: Thresholds) -> tuple[Condition, ...]:
    rho = _strictest(t.entropy_rho, t.entropy_rho_chance * c.chance_rho)
    # With k near d every direction lies in the null space; rho cannot exceed 1, so this leaves room for none.
    return (
        _below(
            "logit_var",
            f"LogitVar below {t.entropy_logit_var:g} x the least of random directions",
            c.logit_var,
            t.entropy_logit_var * c.chance_logit_var,
        ),
        _above("rho", f"rho (k = {c.k}) above {t.entropy_rho:g} and {t.entropy_rho_chance:g} x chance", c.rho, rho),
        _above(
            "norm",
            f"norm above {t.entropy_norm:g} x the layer's median (speaks for it, not required)",
            c.norm,
            t.entropy_norm * median(c.norm),
            required=False,
        ),
    )


def _frequency(c: Columns, t: Thresholds) -> tuple[Condition, ...]:
    size = c.frequency_alignment.abs()
    relative = (t.frequency_alignment_chance * c.chance_alignment, t.frequency_alignment_median * median(size))
    text = (
        f"abs(frequency alignment) above {t.frequency_alignment:g}, {t.frequency_alignment_chance:g} x chance and "
        f"{t.frequency_alignment_median:g} x the layer's median"
    )
    return (_above("frequency_alignment", text, size, _strictest(t.frequency_alignment, *relative)),)


def _strictest(*thresholds: float) -> float:
    """The largest; NaN where one is unknown (`max` would pass over it)."""
    return float("nan") if any(math.isnan(each) for each in thresholds) else max(thresholds)


def _above(name: str, text: str, values: Tensor, threshold: float, **more: bool) -> Condition:
    return Condition(name, text, threshold, values, values > threshold, **more)


def _below(name: str, text: str, values: Tensor, threshold: float, **more: bool) -> Condition:
    return Condition(name, text, threshold, values, values < threshold, **more)


@dataclass(frozen=True, slots=True)
class _Swept:
    """Evidence as columns; NaN where the sweep has none. measured: the neurons that it speaks of."""

    values: Mapping[str, Float[Tensor, " n"]]
    measured: Bool[Tensor, " n"]

    @classmethod
    def of(cls, evidence: Mapping[int, Evidence], n: int) -> _Swept:
        names = ("ln_mediated_fraction", "frequency_mediated_fraction", "mean_abs_d_entropy", "mean_abs_d_kl")
        columns = {name: torch.full((n,), float("nan"), dtype=torch.float64) for name in names}
        measured = torch.zeros(n, dtype=torch.bool)
        for index, found in evidence.items():
            measured[index] = True
            for name in names:
                value = getattr(found, name)
                columns[name][index] = float("nan") if value is None else value
        return cls(columns, measured)

    def causal(self, share: str, effect: str, least: float, times: float) -> tuple[Condition, Condition]:
        fraction, size = self.values[f"{share}_fraction"], self.values[f"mean_abs_{effect}"]
        threshold = times * median(size)
        path = share.replace("_", "-").replace("ln", "LN")
        what = effect.replace("d_entropy", "dH").replace("d_kl", "dKL")
        return (
            _above(share, f"{path} fraction above {least:g} (sweep)", fraction, least, causal=True),
            _above(
                f"mean_abs_{effect}",
                f"mean abs {what} above {times:g} x the swept neurons' median (sweep)",
                size,
                threshold,
                causal=True,
            ),
        )


def median(values: Float[Tensor, " n"]) -> float:
    """Of the known values; NaN where there are none."""
    known = values[~values.isnan()]
    return float(known.quantile(0.5)) if 0 < len(known) < 1 << 24 else float("nan")
