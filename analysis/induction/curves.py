"""A metric by position: its mean over rows, and the band that holds the middle 80 % of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.induction.measure import RowMetrics

BAND = (0.1, 0.9)
METRICS = ("entropy", "loss", "ln_scale", "top1_prob", "kl_unigram")


@dataclass(frozen=True, slots=True)
class Curve:
    """mean, and the 10th and 90th percentile over rows, at each position; NaN where a metric is undefined."""

    mean: Float[Tensor, " pos"]
    low: Float[Tensor, " pos"]
    high: Float[Tensor, " pos"]


def curve(values: Float[Tensor, "row pos"]) -> Curve:
    """The curve of one number a position and row."""
    exact = values.double()
    low, high = torch.quantile(exact, torch.tensor(BAND, dtype=torch.float64, device=values.device), dim=0)
    return Curve(exact.mean(0), low, high)


def over_sets(values: Sequence[Float[Tensor, " pos"]]) -> Curve:
    """The curve of one number a position and control set."""
    return curve(torch.stack(list(values)))


def metric_curves(found: RowMetrics) -> dict[str, Curve]:
    """Every metric that there is."""
    values = {name: getattr(found, name) for name in METRICS}
    return {name: curve(value) for name, value in values.items() if value is not None}
