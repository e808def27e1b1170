"""The requests of the instrument itself: a prompt, a trace with interventions, the effects at one token.

Bounds that an operator can move (tokens, characters, ...) are settings, checked in `limits`; these rules always hold.
"""

import math
import sys
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from analysis.grammar import read_integer, read_number
from app.core import names
from app.core.column import columns_of
from app.core.grammar import (
    MOST_NAMED,
    read_baseline,
    read_head,
    read_intervention,
    read_neuron,
    read_scale,
    read_turn,
    read_where,
    reads,
    without_paused,
)
from app.core.typed import Typed
from app.core.view import EffectRow

NeuronName = Annotated[names.NeuronName, reads(read_neuron)]
HeadName = Annotated[names.HeadName, reads(read_head), Field(description="layer.head, or L5H1")]
# An integer as JSON writes one: true, "5" and 5.0 are none.
Index = Annotated[int, Field(strict=True, ge=0)]
Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(fail_fast=True)]
"""What is sent as a list: the first item that does not hold ends it, so that a long one is soon refused."""
Named = Annotated[Listed[Item], Field(max_length=MOST_NAMED)]
"""The same of what takes time to read."""
Position = Annotated[int, reads(read_integer), Field(ge=0, description="Counted from 0, BOS included.")]
BaselineName = Literal["mean", "prompt_mean", "zero"]
Order = Literal["abs_desc", "desc", "asc"]
PageFormat = Literal["html", "json", "csv", "csv-raw", "parquet"]
"""What a page is asked for as. csv: text that a spreadsheet would run as a formula has an apostrophe before it; csv-raw
and parquet: every text as it is, for programs."""


def well_formed(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no character and cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a surrogate pair at character {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(well_formed)]

# How common fields are typed in a shell.
AT = Typed(("--position", "-p"), help="Position to measure at; the last by default.")
BASELINE = Typed(help="mean, prompt_mean, zero or a number.")
ONLY = Typed(("--neuron", "-n"), metavar="L.I", help="Only this neuron; repeatable.")
ONE_OF_SET = Typed(("--neuron", "-n"), metavar="L.I", help="One of the set; repeatable.")
WATCHED = Typed(("--neuron", "-n"), metavar="L.I", help="Show its activation; repeatable.")
UNCENTRED = Typed(("--uncentred",), off=True, help="W_U without centring over the vocabulary.")


# Far beyond what any model computes, and far from where float32 overflows.
MAX_ACTIVATION = 1e6
Number = Annotated[float, reads(read_number)]
Activation = Annotated[float, reads(read_number), Field(ge=-MAX_ACTIVATION, le=MAX_ACTIVATION)]


BaselineValue = Annotated[BaselineName | Activation, reads(read_baseline)]


MOST_TURNS = 64
MOST_KEYS = 1000


class Strict(BaseModel):
    """Unknown keys refused, no NaN or infinity, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _not_without_end(cls, value: object) -> object:
        """Each key that is not known is an error of its own."""
        if isinstance(value, dict) and len(value) > MOST_KEYS:
            raise ValueError(f"{len(value)} fields were sent; at most {MOST_KEYS} are looked at")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """pydantic takes true for 1. Numbers written as text stay numbers: forms and addresses have nothing else."""
        if not isinstance(value, bool):
            return value
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if bool not in kinds and kinds.intersection((int, float)):
            raise ValueError("true and false are no numbers")
        return value


def _kinds(annotation: object) -> set[object]:
    """The types that an annotation is made of."""
    return {annotation}.union(*map(_kinds, get_args(annotation)))


class NothingAsked(Strict):
    """A question that has no options."""


class SpanRequest(Strict):
    """Positions start, ..., stop - 1."""

    start: Index
    stop: Index

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.stop <= self.start:
            raise ValueError("stop must be greater than start (the range is half-open)")
        return self


class _Placed(Strict):
    positions: Annotated[Listed[Index] | SpanRequest | None, reads(read_where)] = Field(
        None, description="null: every position. Also as a text: `3,7`, or `4-9` with both ends."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.positions == []:
            raise ValueError("positions must not be empty; null means every position")
        return self


class HeadInterventionRequest(_Placed):
    """An attention head taken out, and where: a real forward pass, since later layers answer to it."""

    head: HeadName
    mode: Literal["bos", "mean", "zero"] = Field(
        "bos", description="bos: it reads position 0 alone; mean: it writes its mean over this prompt; zero: nothing."
    )


class InterventionRequest(_Placed):
    """What happens to one neuron, and where."""

    neuron: NeuronName
    mode: Literal["mean", "zero", "value", "scale", "clip"] = "mean"
    value: Activation | None = Field(None, description="For value: the activation. For scale: the factor.")
    min: Activation | None = Field(None, description="For clip: the activation is raised to this.")
    max: Activation | None = Field(None, description="For clip: the activation is lowered to this.")

    @model_validator(mode="after")
    def _fits_its_mode(self) -> Self:
        if (self.mode in ("value", "scale")) != (self.value is not None):
            raise ValueError("value is needed for the modes value and scale, and only there")
        if (self.mode == "clip") != (self.min is not None or self.max is not None):
            raise ValueError("min or max is needed for the mode clip, and only there")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be greater than max")
        return self


def _kind(item: Any) -> str:
    is_head = isinstance(item, HeadInterventionRequest) or (isinstance(item, dict) and "head" in item)
    return "a head" if is_head else "a neuron"


AnyIntervention = Annotated[
    Annotated[InterventionRequest, Tag("a neuron")] | Annotated[HeadInterventionRequest, Tag("a head")],
    Discriminator(_kind),
    reads(read_intervention),
]
Interventions = Annotated[Named[AnyIntervention], BeforeValidator(without_paused)]


class TurnRequest(Strict):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[Text, Field(min_length=1)]


class PromptRequest(Strict):
    """A prompt, as text, as token ids, or as the turns of a conversation.

    opened: whether an answer at the end of the turns is left open, to be gone on with.
    """

    opened: ClassVar[bool] = False
    text: Text | None = Field(None, description="The prompt as text; or give token_ids.")
    token_ids: Listed[Index] | None = Field(None, description="The prompt as ids; or give text.")
    turns: (
        Annotated[Listed[Annotated[TurnRequest, reads(read_turn)]], Field(min_length=1, max_length=MOST_TURNS)] | None
    ) = Field(
        None,
        description="The prompt as turns, which the tokenizer's chat template writes as text; the assistant begins "
        "where the last turn is not its own, and what is written goes on with it where it is. Also as texts, such as "
        "`user: Hello`.",
    )
    prepend_bos: bool | None = Field(
        None,
        description="null: for text what the model was trained with, for token ids false, for turns what the template "
        "writes. Never two.",
    )

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if sum(given is not None for given in (self.text, self.token_ids, self.turns)) != 1:
            raise ValueError("give one of text, token_ids and turns")
        if self.text == "" or self.token_ids == []:
            raise ValueError("the prompt is empty")
        return self


class SwitchedRequest(PromptRequest):
    """A prompt, and the "no LayerNorm" switch."""

    ln_scale: Annotated[
        Literal["median"] | Annotated[Number, Field(ge=1e-6, le=1e6)] | None,
        reads(read_scale),
        Typed(help="Switch LayerNorm off: hold its scale at this number, or at the prompt's 'median'."),
    ] = Field(
        None,
        description="The final LN scale held at this constant for the whole run (median: this prompt's own median); "
        "null: the model's norm. Without a norm to follow, total and direct effects coincide.",
    )


DO = Typed(
    ("--intervene", "-i"),
    metavar="SPEC",
    help="3.17:zero, 3.17:clip=0..1@2-6, L3H2:bos; repeatable.",
)


class TraceRequest(SwitchedRequest):
    """Run a prompt, clean and (where interventions are given) intervened."""

    interventions: Annotated[Interventions, DO] = Field(
        [], description="On neurons of any layer, and on attention heads. Also as texts, such as `3.17:clip=0..1@2-6`."
    )
    neurons: Annotated[Named[NeuronName], WATCHED] = Field(
        [], description="Neurons of any layer whose activations to return."
    )
    top_k: Annotated[int, Typed(default=3)] = Field(
        10, ge=0, description="How many next tokens to list at each position."
    )


class TableRequest(Strict):
    """A table of neurons: filtered, sorted, a page of it.

    Keys `min_<column>` and `max_<column>` keep the rows whose value lies within; a null value never does. Each table
    names its columns and the one that it is sorted by.
    """

    model_config = ConfigDict(
        extra="allow", defer_build=True, json_schema_extra={"additionalProperties": {"type": "number"}}
    )
    __pydantic_extra__: dict[str, Number]
    columns: ClassVar[tuple[str, ...]] = ()

    sort: str
    order: Order = Field("desc", description="Nulls come last, ties by neuron.")
    offset: int = Field(0, ge=0)
    limit: int = Field(50, ge=1, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        """Before the values: a key that there is not is refused as that, whatever stands beside it."""
        for key in given if isinstance(given, dict) else ():
            if key in cls.model_fields:
                continue
            if not key.startswith(("min_", "max_")):
                raise ValueError(f"unknown key {key[:40]!r}")
            if key[4:] not in cls.columns:
                raise ValueError(f"no column {key[4:44]!r} to filter by; there are: {', '.join(cls.columns)}")
        return given

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        for key, value in self.bounds.items():
            if not math.isfinite(value):
                raise ValueError(f"{key} must be a finite number")
        if self.sort not in self.columns:
            raise ValueError(f"sort: no column {self.sort[:40]!r}; there are: {', '.join(self.columns)}")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        return self.__pydantic_extra__

    def whole(self) -> Self:
        """With every row, where no page of them is named: what a file holds."""
        named = {"offset", "limit"} & self.model_fields_set
        return self if named else self.model_copy(update={"limit": sys.maxsize})


EFFECT_COLUMNS = tuple(columns_of(EffectRow))


class EffectsRequest(SwitchedRequest, TableRequest):
    """Ablate each last-layer neuron at one position, by itself, and measure there."""

    columns: ClassVar[tuple[str, ...]] = EFFECT_COLUMNS

    position: Annotated[Position | None, AT] = Field(None, description="null: the last one.")
    baseline: Annotated[BaselineValue, BASELINE] = Field("mean", description="The value an ablated neuron is set to.")
    neurons: Annotated[Literal["all"] | Annotated[Named[NeuronName], Field(min_length=1)], ONLY] = "all"
    limit: Annotated[int, Typed(default=20)] = Field(50, ge=1, le=1000)
    sort: str = Field("d_entropy.total", description=f"One of: {', '.join(EFFECT_COLUMNS)}.")
    order: Order = Field("abs_desc", description="Nulls come last, ties by neuron.")
