"""What the subjects add to the program: every question by name, the worked examples of other pages than the first.

A subject's own questions are in its `questions.py`.
"""

from collections.abc import Mapping

from app.atlas import questions as atlas
from app.core.later import Later
from app.core.question import SWEEP, Question, Unasked
from app.effects import questions as effects
from app.generate import questions as generate
from app.induction import questions as induction
from app.neuron import questions as neuron
from app.prompt import questions as prompt
from app.server import questions as server
from app.why import questions as why

SUBJECTS = (prompt, effects, why, generate, atlas, neuron, induction, server)
QUESTIONS: Mapping[str, Question] = {question.name: question for subject in SUBJECTS for question in subject.QUESTIONS}
OTHERS = {SWEEP: Unasked(view=Later("app.sweep.view:KeptSweep"), tells=Later("app.sweep.told:of_sweep"))}
"""Kinds of results that no question answers."""
EXAMPLES = (Later("app.induction.example:ref"),)
"""`() -> ExampleRef | None`: what the first page offers beside its own examples."""
