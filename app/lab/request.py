"""What people write: notes, lists, pins."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from analysis.types import NEURON
from app.core.names import MODEL_PATTERN
from app.core.request import Named, NeuronName, Strict, well_formed
from app.core.wording import spelled

TARGET = rf"^(neuron:{MODEL_PATTERN}/{NEURON}|result:[0-9a-f]{{64}})$"
TARGET_WORDS = "neuron:<model>/<layer.index> or result:<hash>"
Target = Annotated[str, Field(pattern=spelled(TARGET, TARGET_WORDS), description=TARGET_WORDS)]
ModelKey = Annotated[str, StringConstraints(pattern=spelled(f"^{MODEL_PATTERN}$", "the key of a model"))]


def writable(text: str) -> str:
    """PostgreSQL stores no NUL."""
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


# Constraints first: what is stripped away does not count.
Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=120),
    AfterValidator(well_formed),
    AfterValidator(writable),
]
Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=120, pattern=spelled(r"^[^\r\n]*$", "one line")),
    AfterValidator(well_formed),
    AfterValidator(writable),
]
Prose = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(well_formed), AfterValidator(writable)]
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000),
    AfterValidator(well_formed),
    AfterValidator(writable),
]


class CaptionRequest(Strict):
    """What a shared result is called, and what is said of it; empty: what its numbers say."""

    title: Title = ""
    caption: Prose = ""


class NoteRequest(Strict):
    """A note on something."""

    target: Target
    text: Words


class NoteEdit(Strict):
    """The new text of a note."""

    text: Words


class ListRequest(Strict):
    """A named set of neurons of one model; a neuron that is named twice is in it once."""

    name: Line
    description: Prose = ""
    model: ModelKey
    neurons: Annotated[Named[NeuronName], Field(max_length=2000)] = Field([])


class ListEdit(Strict):
    """New values for what is given."""

    name: Line | None = None
    description: Prose | None = None
    neurons: Annotated[Named[NeuronName], Field(max_length=2000)] | None = None


class PinRequest(Strict):
    """Something to keep at hand."""

    target: Target
