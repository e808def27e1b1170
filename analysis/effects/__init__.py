"""Exact effects of last-layer neurons without another forward pass (paper sections 3 and 4; docs/methods.md)."""

from analysis.effects.ablation import Condition
from analysis.effects.engine import Engine
from analysis.effects.outcome import Outcome
from analysis.effects.sets import DoseResponse, Joint, dose_response, joint
from analysis.effects.stream import Block, baseline_values, next_tokens, stream
from analysis.effects.table import CleanToken, Effects, Parts, effects, warm_up
from analysis.effects.temperature import Temperature, temperature_share

__all__ = [
    "Block",
    "CleanToken",
    "Condition",
    "DoseResponse",
    "Effects",
    "Engine",
    "Joint",
    "Outcome",
    "Parts",
    "Temperature",
    "baseline_values",
    "dose_response",
    "effects",
    "joint",
    "next_tokens",
    "stream",
    "temperature_share",
    "warm_up",
]
