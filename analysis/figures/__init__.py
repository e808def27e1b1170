"""The paper's figures from any sweep, as data: no drawing here."""

from analysis.figures.controls import ControlEffects, control_effects
from analysis.figures.data import Dropout, Figure, Ground, Point
from analysis.figures.ground import ground_of, sets_of
from analysis.figures.paper import MAKERS, figure

__all__ = [
    "MAKERS", "ControlEffects", "Dropout", "Figure", "Ground", "Point", "control_effects", "figure", "ground_of",
    "sets_of",
]  # fmt: skip
