"""The requests of the instrument itself: a prompt, a trace with interventions, the effects at one token.

Bounds that an operator can move (tokens, characters, ...) are settings, checked in `limits`; these rules always hold.
"""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

NEURON_PATTERN = r"^\d{1,4}\.\d{1,7}$"  # analysis.types.NeuronId reads the same
NeuronName = Annotated[str, Field(pattern=NEURON_PATTERN, description="layer.index", examples=["11.2378"])]
HeadName = Annotated[str, Field(pattern=r"^\d{1,4}\.\d{1,4}$", description="layer.head", examples=["5.1"])]
Position = Annotated[int, Field(ge=0, description="Counted from 0, BOS included.")]
BaselineName = Literal["mean", "prompt_mean", "zero"]
Order = Literal["abs_desc", "desc", "asc"]


def well_formed(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no character and cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a surrogate pair at character {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(well_formed)]


# Far beyond what any model computes, and far from where float32 overflows.
MAX_ACTIVATION = 1e6
Activation = Annotated[float, Field(ge=-MAX_ACTIVATION, le=MAX_ACTIVATION)]


class Strict(BaseModel):
    """Unknown keys refused, no NaN or infinity, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SpanRequest(Strict):
    """Positions start, ..., stop - 1."""

    start: Position
    stop: Position

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.stop <= self.start:
            raise ValueError("stop must be greater than start (the range is half-open)")
        return self


class _Placed(Strict):
    positions: list[Position] | SpanRequest | None = Field(None, description="null: every position.")

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
    return "head" if is_head else "neuron"


AnyIntervention = Annotated[
    Annotated[InterventionRequest, Tag("neuron")] | Annotated[HeadInterventionRequest, Tag("head")],
    Discriminator(_kind),
]


class PromptRequest(Strict):
    """A prompt, as text or as token ids."""

    text: Text | None = Field(None, description="The prompt as text; or give token_ids.")
    token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(None, description="The prompt as ids; or give text.")
    prepend_bos: bool | None = Field(
        None, description="null: for text what the model was trained with, for token ids false. Never two."
    )

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.text is None) == (self.token_ids is None):
            raise ValueError("give either text or token_ids")
        if self.text == "" or self.token_ids == []:
            raise ValueError("the prompt is empty")
        return self


class SwitchedRequest(PromptRequest):
    """A prompt, and the "no LayerNorm" switch."""

    ln_scale: Literal["median"] | Annotated[float, Field(ge=1e-6, le=1e6)] | None = Field(
        None,
        description="The final LN scale held at this constant for the whole run (median: this prompt's own median); "
        "null: the model's norm. Without a norm to follow, total and direct effects coincide.",
    )


class TraceRequest(SwitchedRequest):
    """Run a prompt, clean and (where interventions are given) intervened."""

    interventions: list[AnyIntervention] = Field([], description="On neurons of any layer, and on attention heads.")
    neurons: list[NeuronName] = Field([], description="Neurons of any layer whose activations to return.")
    top_k: int = Field(10, ge=0, description="How many next tokens to list at each position.")


class TableRequest(Strict):
    """A table of neurons: filtered, sorted, a page of it.

    Keys `min_<column>` and `max_<column>` keep the rows whose value lies within; a null value never does. Each table
    names its columns and the one that it is sorted by.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": {"type": "number"}})
    __pydantic_extra__: dict[str, float]
    columns: ClassVar[tuple[str, ...]] = ()

    sort: str
    order: Order = Field("desc", description="Nulls come last, ties by neuron.")
    offset: int = Field(0, ge=0)
    limit: int = Field(50, ge=1, le=1000)

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        for key, value in self.bounds.items():
            if not key.startswith(("min_", "max_")):
                raise ValueError(f"unknown key {key[:40]!r}")
            if key[4:] not in self.columns:
                raise ValueError(f"no column {key[4:44]!r} to filter by; there are: {', '.join(self.columns)}")
            if not math.isfinite(value):
                raise ValueError(f"{key} must be a finite number")
        if self.sort not in self.columns:
            raise ValueError(f"sort: no column {self.sort[:40]!r}; there are: {', '.join(self.columns)}")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        return self.__pydantic_extra__


PARTS = ("total", "direct", "ln_mediated", "ln_only", "frequency_mediated")
EFFECT_COLUMNS = (
    "neuron",
    "activation",
    "baseline",
    *(f"{metric}.{part}" for metric in ("d_entropy", "d_loss", "d_kl_unigram") for part in PARTS),
    "ln_scale_before",
    "ln_scale_after",
    "top1_changes",
    "temperature",
    "temperature_share",
    "kl",
    "temperature_kl",
)


class EffectsRequest(SwitchedRequest, TableRequest):
    """Ablate each last-layer neuron at one position, by itself, and measure there."""

    columns: ClassVar[tuple[str, ...]] = EFFECT_COLUMNS

    position: Position | None = Field(None, description="null: the last one.")
    baseline: BaselineName | Activation = Field("mean", description="The value an ablated neuron is set to.")
    neurons: Literal["all"] | Annotated[list[NeuronName], Field(min_length=1)] = "all"
    sort: str = Field("d_entropy.total", description=f"One of: {', '.join(EFFECT_COLUMNS)}.")
    order: Order = Field("abs_desc", description="Nulls come last, ties by neuron.")
