"""Exact effects of last-layer neurons without another forward pass (paper sections 3 and 4; docs/methods.md)."""

from analysis.effects.ablation import Condition
from analysis.effects.engine import Engine
from analysis.effects.heatmap import Heatmap, heatmap, row_sizes
from analysis.effects.outcome import Outcome
from analysis.effects.sets import DoseResponse, Joint, dose_response, doses, joint
from analysis.effects.stream import Baselines, Block, baseline_values, next_tokens, stream
from analysis.effects.table import CleanToken, Effects, Parts, effects, strongest, warm_up
from analysis.effects.temperature import Temperature, temperature_share

__all__ = [
    "Baselines",
    "Block",
    "CleanToken",
    "Condition",
    "DoseResponse",
    "Effects",
    "Engine",
    "Heatmap",
    "Joint",
    "Outcome",
    "Parts",
    "Temperature",
    "baseline_values",
    "dose_response",
    "doses",
    "effects",
    "heatmap",
    "joint",
    "next_tokens",
    "row_sizes",
    "stream",
    "strongest",
    "temperature_share",
    "warm_up",
]
