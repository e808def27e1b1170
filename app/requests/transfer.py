"""What `export` gave, to be taken in: every row checked as if somebody had just written it.

A file may come from anywhere. What is taken in can be listed, opened and shown, and a result's hash is that of its
request.
"""

import base64
import json
import zlib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from app.requests.canonical import content_hash
from app.requests.core import NeuronName, Strict, well_formed
from app.requests.notes import Line, ModelKey, Prose, Target, Words, writable

MOST_ANSWER = 64_000_000  # bytes of one answer, unpacked
LAST_SECOND = 253_402_300_799  # of the year 9999: what a date can say

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Time = Annotated[float, Field(ge=0, le=LAST_SECOND, description="Seconds since 1970, UTC.")]


Writable = Annotated[str, AfterValidator(well_formed), AfterValidator(writable)]
Person = Annotated[Writable, StringConstraints(max_length=100)]
Name = Annotated[Writable, StringConstraints(max_length=200)]


def _answer(text: str) -> str:
    """Base64 of packed JSON that is an object."""
    unpacked = zlib.decompressobj()
    try:
        answer = json.loads(unpacked.decompress(base64.b64decode(text, validate=True), MOST_ANSWER))
    except (ValueError, zlib.error, RecursionError):
        raise ValueError("is not an answer as it was exported") from None
    if not unpacked.eof or not isinstance(answer, dict):
        raise ValueError("is not a whole answer")
    return text


class ResultRow(Strict):
    hash: Hash
    kind: Annotated[Writable, StringConstraints(max_length=32)]
    model: Name
    weights_sha256: Hash
    request: dict[str, Any]
    versions: dict[str, str]
    answer: Annotated[str, AfterValidator(_answer)]
    preview: Name
    author: Person
    created: Time

    @model_validator(mode="after")
    def _is_of_its_request(self) -> Self:
        named = {"kind": self.kind, "model": self.model, "weights_sha256": self.weights_sha256}
        if content_hash(self.request) != self.hash or not named.items() <= self.request.items():
            raise ValueError("the hash is not that of the request")
        return self


class AskedRow(Strict):
    person: Person
    hash: Hash
    at: Time


class NoteBody(Strict):
    target: Target
    text: Words


class NoteRow(NoteBody):
    id: Id
    author: Person
    created: Time
    updated: Time


class ListBody(Strict):
    name: Line
    description: Prose
    model: ModelKey
    neurons: Annotated[list[NeuronName], Field(max_length=2000)]


class ListRow(ListBody):
    id: Id
    author: Person
    created: Time
    updated: Time


class RevisionRow(Strict):
    id: int
    thing: Id
    author: Person
    at: Time
    body: NoteBody | ListBody


class PinRow(Strict):
    person: Person
    target: Target
    created: Time


class ImportRequest(Strict):
    """What `export` gave."""

    format: Literal["nullscope-export"]
    version: Literal[1]
    notes: list[NoteRow] = Field([])
    lists: list[ListRow] = Field([])
    revisions: list[RevisionRow] = Field([])
    pins: list[PinRow] = Field([])
    results: list[ResultRow] = Field([])
    asked: list[AskedRow] = Field([])

    @model_validator(mode="after")
    def _asked_for_what_is_there(self) -> Self:
        if not {row.hash for row in self.asked} <= {row.hash for row in self.results}:
            raise ValueError("asked names a result that results does not hold")
        return self
