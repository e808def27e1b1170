"""What `export` gave, to be taken in: the shape of every row. `app.lab.importing` reads a file.

A file may come from anywhere. What is taken in can be listed, opened and shown, and a result's hash is that of its
request.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from app.core.canonical import content_hash
from app.core.request import Index, Listed, NeuronName, Strict, well_formed
from app.core.wording import spelled
from app.lab.request import Line, ModelKey, Prose, Target, Title, Words, writable

MOST_TOKENS = 100_000  # of one result; limits that an operator sets are lower
LAST_SECOND = 253_402_300_799  # of the year 9999: what a date can say

Hash = Annotated[str, StringConstraints(pattern=spelled(r"^[0-9a-f]{64}$", "64 hexadecimal digits"))]
Id = Annotated[str, StringConstraints(pattern=spelled(r"^[0-9a-f]{32}$", "32 hexadecimal digits"))]
Time = Annotated[float, Field(ge=0, le=LAST_SECOND, description="Seconds since 1970, UTC.")]


Writable = Annotated[str, AfterValidator(well_formed), AfterValidator(writable)]
Person = Annotated[Writable, StringConstraints(min_length=1, max_length=100)]
Name = Annotated[Writable, StringConstraints(min_length=1, max_length=200)]
Version = Annotated[Writable, StringConstraints(max_length=200)]


class CanonicalRequest(Strict):
    """What a result's hash is over. options: those of the kind, spelled out."""

    kind: Annotated[Writable, StringConstraints(min_length=1, max_length=32)]
    model: Name
    weights_sha256: Hash
    token_ids: Annotated[Listed[Index], Field(max_length=MOST_TOKENS)]
    options: dict[str, Any]


class ResultRow(Strict):
    hash: Hash
    kind: str
    model: str
    weights_sha256: str
    request: CanonicalRequest
    versions: Annotated[dict[Version, Version], Field(max_length=40)]
    answer: str = Field(description="JSON, packed by zlib, in base64.")
    preview: Annotated[Writable, StringConstraints(max_length=200)]
    author: Person
    created: Time
    title: Title = ""  # an older version's have none
    caption: Prose = ""

    @model_validator(mode="after")
    def _is_of_its_request(self) -> Self:
        asked = self.request
        named = (self.kind, self.model, self.weights_sha256) == (asked.kind, asked.model, asked.weights_sha256)
        if not named or content_hash(asked.model_dump()) != self.hash:
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
    neurons: Annotated[Listed[NeuronName], Field(max_length=2000)]


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
    # The first row that does not hold ends it: a file may have a hundred thousand of them.
    notes: Listed[NoteRow] = Field([])
    lists: Listed[ListRow] = Field([])
    revisions: Listed[RevisionRow] = Field([])
    pins: Listed[PinRow] = Field([])
    results: Listed[ResultRow] = Field([])
    asked: Listed[AskedRow] = Field([])

    @property
    def n_rows(self) -> int:
        return sum(len(getattr(self, name)) for name in ("notes", "lists", "revisions", "pins", "results", "asked"))

    @model_validator(mode="after")
    def _asked_for_what_is_there(self) -> Self:
        if not {row.hash for row in self.asked} <= {row.hash for row in self.results}:
            raise ValueError("asked names a result that results does not hold")
        return self


def whole_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model with every other model in its place, so that it refers to nothing outside."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def filled(node: Any) -> Any:
        if isinstance(node, list):
            return [filled(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return filled(parts[node["$ref"].rpartition("/")[2]])
        return {name: filled(item) for name, item in node.items()}

    found: dict[str, Any] = filled(schema)
    return found
