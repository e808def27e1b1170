"""The state of the induction page: one flat form, the same in the address (without texts) and in the body of a POST."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from analysis.grammar import listed
from analysis.types import InputError
from app.core.errors import RefusedFieldsError, blamed, validation_message
from app.core.fields import holding
from app.core.wording import spelled
from app.induction import request as requests

Request = TypeVar("Request", bound=BaseModel)

LISTS = ("neurons", "clip", "heads", "corrupt_at")
IN_STATE = {"neuron": "who", "mode": "how"}  # a request's field -> where it stands in the state
BODY_ONLY = {"text", "act", "format", "table", "saved"}
ROWS = ("kind", "text", "seed", "rows", "length", "copies", "separator", "corrupt", "corrupt_at")
BESIDE = ("pattern", "who", "heads", "how", "queries", "random")  # what the panels show beside the curves

KEPT = spelled(r"^([0-9a-f]{64})?$", "the 64 hexadecimal digits of a kept answer")


class InductionState(BaseModel):
    """What the page shows. Lists are written with spaces between."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: str | None = None
    kind: requests.Kind = "natural"
    text: str = ""
    seed: requests.Seed = 0
    rows: int = Field(16, ge=1)
    length: int | None = Field(None, ge=4)
    copies: int = Field(2, ge=2, le=requests.MAX_COPIES)
    separator: str = Field("", max_length=200)
    corrupt: int = Field(0, ge=0)
    corrupt_at: str = Field("", max_length=400, description="Tokens of the second copy, from 0, spaces between.")
    neurons: str = Field("", max_length=400)
    clip: str = Field("", max_length=400)
    controls: int = Field(20, ge=0, le=100)
    pattern: str = Field("", max_length=20)
    who: str = Field("", max_length=20)
    heads: str = Field("", max_length=400)
    how: Literal["bos", "mean", "zero"] = "bos"
    queries: int = Field(32, ge=1)
    random: int = Field(3, ge=0, le=20)
    saved: str = Field("", pattern=KEPT, description="Where one's own text and its curves are kept.")
    table: Literal["", "ranking", "controls", "tokens", "pattern", "positions", "queries", "passages"] = ""
    act: str = Field("", max_length=60)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        """A form sends empty strings for what was left open."""
        return cls.model_fields[info.field_name].get_default() if value == "" else value

    @field_validator("corrupt_at")
    @classmethod
    def _are_numbers(cls, value: str) -> str:
        if not all(re.fullmatch(r"[0-9]{1,6}", offset) for offset in listed(value)):
            raise ValueError("numbers of tokens, such as 0 5 12")
        return value

    @field_validator("text", mode="before")
    @classmethod
    def _line_ends(cls, value: Any) -> Any:
        return value.replace("\r\n", "\n") if isinstance(value, str) else value

    @classmethod
    def read(cls, pairs: Mapping[str, Any]) -> Self:
        """From query or form fields, after the pressed button (`act`); InputError names what does not hold."""
        state, refused = cls.holding(pairs)
        if refused is not None:
            raise refused
        return state

    @classmethod
    def holding(cls, pairs: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state as far as it holds, after the pressed button, and why the rest does not."""
        state, refused = holding(cls, pairs)
        after, wrong = holding(cls, {**state.model_dump(), **state.acted()})
        return (after if wrong is None else state.model_copy(update={"act": ""})), refused or wrong

    def without(self, error: Exception) -> Iterator[Self]:
        """The state with less and less of it: without the fields that the error is about, without what is drawn and
        asked, without what shapes the rows, without any of it."""
        shape, drawn = set(ROWS) - {"kind", "text", "seed"}, {"neurons", "clip", *BESIDE}
        for left_out in (self._blamed(error) or drawn, drawn, shape, shape | drawn):
            yield type(self).model_validate(self.model_dump(exclude=left_out))

    def _blamed(self, error: Exception) -> set[str]:
        """Fields that the error names, and those in which a neuron or head stands that it names."""
        words = set(re.findall(r"[0-9]+\.[0-9]+", str(error)))
        lists = (name for name in (*LISTS, "who", "pattern") if words.intersection(self.listed(name)))
        return {*lists, *(IN_STATE.get(name, name) for name in getattr(error, "fields", ()))}

    def acted(self) -> dict[str, Any]:
        """What the pressed button changes. `clip:3.249`, `neurons:3.249`, `heads:1.2` and `corrupt_at:5` put a name
        into a list or take it out; `who:` and `pattern:` set it."""
        what, _, name = self.act.partition(":")
        changes: dict[str, Any] = {"act": ""}
        if what in LISTS and name:
            found = self.listed(what)
            changes[what] = " ".join([n for n in found if n != name] if name in found else [*found, name])
        elif what in ("who", "pattern"):
            changes[what] = name
        return changes

    def listed(self, name: str) -> list[str]:
        """The names in a list field, each once."""
        return listed(getattr(self, name))

    def has_text(self) -> bool:
        """Whether one's own text has been written, where it is asked for."""
        return self.kind != "text" or bool(self.text.strip())

    def fields(self) -> dict[str, Any]:
        return self.model_dump()

    @classmethod
    def of_request(cls, asked: requests.InductionRequest, query: dict[str, Any], **more: Any) -> Self:
        """The page that asks this; `query` says what the panels show beside it."""
        given = asked.model_dump(exclude={"limit"})
        listed = {name: " ".join(map(str, given[name])) for name in ("neurons", "clip", "corrupt_at")}
        beside = {name: query[name] for name in BESIDE if name in query}
        return cls.read({**given, "text": asked.text or "", **listed, **beside, **more})

    def address(self, prompt: str = "") -> str:
        """Where this page is found again: what differs from the defaults, and never one's own words. prompt: the name
        of one's own text in this session (`app.core.at_hand`)."""
        kept = self.model_dump(exclude=BODY_ONLY, exclude_defaults=True)
        if self.kind == "text":
            if self.saved:
                return _address(f"/r/{self.saved}", {name: kept[name] for name in BESIDE if name in kept})
            kept.pop("separator", None)
            kept |= {"prompt": prompt} if prompt else {}
        return _address("/induction", kept)

    # the API's requests

    def repeat(self) -> dict[str, Any]:
        """The part that says which rows."""
        offsets = self.listed("corrupt_at")
        return {
            "kind": self.kind,
            "text": self.text if self.kind == "text" else None,
            "seed": self.seed,
            "rows": self.rows,
            "length": self.length,
            "copies": self.copies,
            "separator": self.separator,
            "corrupt": 0 if offsets else self.corrupt,
            "corrupt_at": list(map(int, offsets)),
        }

    def induction(self) -> requests.InductionRequest:
        lists = {name: self.listed(name) for name in ("neurons", "clip")}
        return _request(requests.InductionRequest, **self.repeat(), **lists, controls=self.controls, limit=100_000)

    def scores(self) -> requests.HeadsRequest:
        return _request(requests.HeadsRequest, seed=self.seed, pattern=self.pattern or None)

    def attribution(self) -> requests.AttributionRequest:
        return _request(requests.AttributionRequest, **self.repeat(), neuron=self.who)

    def ablation(self) -> requests.HeadAblationRequest:
        rows = {**self.repeat(), "rows": min(self.rows, 4)}
        neurons = self.listed("neurons") or self.listed("clip") or ([self.who] if self.who else [])
        if not neurons:
            raise InputError("No neuron is chosen to read.", code="no_neurons", hint="Draw one from the ranking first.")
        chosen = {"heads": self.listed("heads"), "neurons": neurons, "mode": self.how}
        return _request(requests.HeadAblationRequest, **rows, **chosen, queries=self.queries, random=self.random)

    def natural(self) -> requests.NaturalRequest:
        """One's own text is searched where the page repeats it."""
        text = self.text if self.kind == "text" else None
        return _request(
            requests.NaturalRequest, text=text, clip=self.listed("clip") or ([self.who] if self.who else [])
        )


def _address(path: str, query: dict[str, Any]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _request(what: type[Request], **fields: Any) -> Request:
    try:
        return what.model_validate(fields)
    except ValidationError as error:
        raise RefusedFieldsError(validation_message(error.errors()), blamed(error.errors())) from None
