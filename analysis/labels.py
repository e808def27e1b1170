"""What a neuron is called, and why: rules over its columns, each condition with its threshold and its value.

    entropy          writes into the null space: small LogitVar, large rho (paper section 3)
    token-frequency  writes along the frequency direction (paper section 4)
    prediction       raises a few tokens: kurtosis of the cosines above 10, skew > 0 (Gurnee et al. 2024, arXiv
                     2401.12181)
    suppression      lowers a few tokens: the same with skew < 0
    partition        splits the vocabulary in two broad groups: large variance of the cosines, kurtosis low

Absolute thresholds are the sources' own; where they give none, the threshold is relative to the layer's distribution
or to random directions of the same norms. A label rests on "weights only" until a sweep adds causal evidence, and
then needs both. A norm above the layer's median speaks for an entropy neuron but is not required: it fails in
Llama-3 and Mistral.
"""

from __future__ import annotations

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
    """Every number in the rules. ``x median``: of the layer; ``x chance``: times the largest of its random controls."""

    entropy_rho: float = 0.7  # about half of the squared norm; the published ones have 0.96 to 0.99
    entropy_rho_chance: float = 1.15  # x chance
    entropy_logit_var: float = 0.35  # x median; the published ones have 0.02 to 0.12
    entropy_norm: float = 1.0  # x median; speaks for, not required
    frequency_alignment: float = 0.5
    frequency_alignment_chance: float = 1.15  # x chance
    frequency_alignment_median: float = 3.0  # x median of its absolute value: where all are aligned, none stands out
    kurtosis: float = 10.0  # Gurnee et al. 2024
    partition_logit_var: float = 3.0  # x median
    partition_kurtosis: float = 4.0
    ln_mediated: float = 0.2
    frequency_mediated: float = 0.3
    effect: float = 2.0  # x median of the swept neurons' mean abs dH (entropy) or mean abs dKL (token-frequency)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a corpus sweep found for one neuron (METHODS section 3). ``intervals``: column name to (low, high)."""

    te: float
    de: float
    ln_mediated_fraction: float | None
    frequency_mediated_fraction: float | None
    mean_abs_d_entropy: float
    mean_abs_d_kl: float | None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the rules read of one layer. chance_*: the largest value among random directions."""

    norm: Float[Tensor, " n"]
    logit_var: Float[Tensor, " n"]
    skew: Float[Tensor, " n"]
    kurtosis: Float[Tensor, " n"]
    rho: Float[Tensor, " n"]
    frequency_alignment: Float[Tensor, " n"]
    chance_rho: float
    chance_alignment: float


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a rule for all neurons of a layer. holds: where it does; known: where there is a value to judge
    by."""

    name: str
    text: str
    threshold: float
    values: Float[Tensor, " n"]
    holds: Bool[Tensor, " n"]
    required: bool = True
    causal: bool = False

    @property
    def known(self) -> Bool[Tensor, " n"]:
        return ~self.values.isnan()


@dataclass(frozen=True, slots=True)
class Label:
    """A rule on one layer: its conditions, where all required ones hold, and what that rests on."""

    name: LabelName
    conditions: tuple[Condition, ...]

    @property
    def holds(self) -> Bool[Tensor, " n"]:
        """All required conditions hold; causal ones count where a sweep has measured the neuron."""
        found = torch.ones_like(self.conditions[0].holds)
        for condition in self.conditions:
            if condition.required:
                found = found & (condition.holds | (~condition.known if condition.causal else False))
        return found

    def basis(self, index: int) -> Basis:
        swept = any(condition.causal and bool(condition.known[index]) for condition in self.conditions)
        return "weights and sweep" if swept else "weights only"


def assign(
    columns: Columns, *, thresholds: Thresholds | None = None, evidence: Mapping[int, Evidence] | None = None
) -> tuple[Label, ...]:
    """All labels of one layer. evidence: by index in the layer, for the neurons a sweep has measured."""
    t, c = thresholds or Thresholds(), columns
    found = _Swept.of(evidence or {}, len(c.norm))
    kurtosis = _above("kurtosis", f"kurtosis of the cosines above {t.kurtosis:g}", c.kurtosis, t.kurtosis)
    spread = t.partition_logit_var * median(c.logit_var)
    return (
        Label("entropy", (*_entropy(c, t), *found.causal("ln_mediated", "d_entropy", t.ln_mediated, t.effect))),
        Label(
            "token-frequency",
            (*_frequency(c, t), *found.causal("frequency_mediated", "d_kl", t.frequency_mediated, t.effect)),
        ),
        Label("prediction", (kurtosis, _above("skew", "skew above 0", c.skew, 0.0))),
        Label("suppression", (kurtosis, _below("skew", "skew below 0", c.skew, 0.0))),
        Label(
            "partition",
            (
                _above(
                    "logit_var", f"LogitVar above {t.partition_logit_var:g} x the layer's median", c.logit_var, spread
                ),
                _below("kurtosis", f"kurtosis below {t.partition_kurtosis:g}", c.kurtosis, t.partition_kurtosis),
            ),
        ),
    )


def _entropy(c: Columns, t: Thresholds) -> tuple[Condition, ...]:
    rho = max(t.entropy_rho, t.entropy_rho_chance * c.chance_rho)
    # With k near d every direction lies in the null space; rho cannot exceed 1, so this leaves room for none.
    return (
        _below(
            "logit_var",
            f"LogitVar below {t.entropy_logit_var:g} x the layer's median",
            c.logit_var,
            t.entropy_logit_var * median(c.logit_var),
        ),
        _above("rho", f"rho above {t.entropy_rho:g} and {t.entropy_rho_chance:g} x chance", c.rho, rho),
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
    return (_above("frequency_alignment", text, size, max(t.frequency_alignment, *relative)),)


def _above(name: str, text: str, values: Tensor, threshold: float, **more: bool) -> Condition:
    return Condition(name, text, threshold, values, values > threshold, **more)


def _below(name: str, text: str, values: Tensor, threshold: float, **more: bool) -> Condition:
    return Condition(name, text, threshold, values, values < threshold, **more)


@dataclass(frozen=True, slots=True)
class _Swept:
    """Evidence as columns; NaN where the sweep has none."""

    values: Mapping[str, Float[Tensor, " n"]]

    @classmethod
    def of(cls, evidence: Mapping[int, Evidence], n: int) -> _Swept:
        names = ("ln_mediated_fraction", "frequency_mediated_fraction", "mean_abs_d_entropy", "mean_abs_d_kl")
        columns = {name: torch.full((n,), float("nan"), dtype=torch.float64) for name in names}
        for index, found in evidence.items():
            for name in names:
                value = getattr(found, name)
                columns[name][index] = float("nan") if value is None else value
        return cls(columns)

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
