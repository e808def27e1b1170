"""What people write: notes, lists, pins, an export to take back in."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from app.requests.core import NeuronName, Strict, well_formed

TARGET = r"^(neuron:[^/\s:]{1,100}/\d{1,4}\.\d{1,7}|result:[0-9a-f]{64})$"
Target = Annotated[str, Field(pattern=TARGET, description="neuron:<model>/<layer.index> or result:<hash>")]
ModelKey = Annotated[str, StringConstraints(pattern=r"^[^/\s:]{1,100}$")]


def _writable(text: str) -> str:
    """PostgreSQL stores no NUL."""
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


def _text(most: int, least: int = 1) -> Any:
    """Constraints first: what is stripped away does not count."""
    bounds = StringConstraints(strip_whitespace=least > 0, min_length=least, max_length=most)
    return Annotated[str, bounds, AfterValidator(well_formed), AfterValidator(_writable)]


if TYPE_CHECKING:
    Line = Prose = Words = str
else:
    Line, Prose, Words = _text(120), _text(20_000, least=0), _text(20_000)


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
    neurons: Annotated[list[NeuronName], Field(max_length=2000)] = []


class ListEdit(Strict):
    """New values for what is given."""

    name: Line | None = None
    description: Prose | None = None
    neurons: Annotated[list[NeuronName], Field(max_length=2000)] | None = None


class PinRequest(Strict):
    """Something to keep at hand."""

    target: Target


class ImportRequest(Strict):
    """What `export` gave."""

    format: Literal["nullscope-export"]
    version: Literal[1]
    notes: list[dict[str, Any]] = []
    lists: list[dict[str, Any]] = []
    revisions: list[dict[str, Any]] = []
    pins: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
