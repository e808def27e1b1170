"""Requests over the weights of a model: the table of neurons, the spectrum, token frequency."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from analysis.grammar import listed
from app.core.grammar import read_neuron, reads
from app.core.interventions import requested
from app.core.place import AtToken
from app.core.request import (
    AT,
    UNCENTRED,
    NeuronName,
    Number,
    Position,
    PromptRequest,
    Strict,
    TableRequest,
    Text,
)
from app.core.typed import Typed
from app.core.weights_request import K, PageQuery, SweepChoice

NEURON_COLUMNS = (
    "neuron",
    "layer",
    "norm",
    "norm_in",
    "cost",
    "cos_in_out",
    "norm_gate",
    "cos_gate_in",
    "cos_gate_out",
    "logit_var",
    "norm_over_logit_var",
    "v_score",
    "skew",
    "kurtosis",
    "rho",
    "rho_share",
    "frequency_alignment",
    "te",
    "de",
    "ln_mediated_fraction",
    "frequency_mediated_fraction",
    "mean_abs_d_entropy",
    "mean_abs_d_kl",
)
LabelName = Literal["entropy", "token-frequency", "prediction", "suppression", "partition"]


def _neurons(text: str) -> str:
    """A list of neurons as it is kept in an address."""
    return ",".join(read_neuron(name) for name in listed(text))


class NeuronsQuery(TableRequest):
    """Which neurons to list. `min_<column>` and `max_<column>` filter."""

    columns: ClassVar[tuple[str, ...]] = NEURON_COLUMNS

    layer: int | None = Field(None, ge=0, description="null: every layer.")
    k: K = None
    sweep: SweepChoice = None
    label: LabelName | None = Field(None, description="Only neurons that carry this label.")
    neurons: Annotated[str, reads(_neurons)] = Field(
        "", max_length=12_000, description="Only these, separated by commas."
    )
    limit: Annotated[int, Typed(default=20)] = Field(50, ge=1, le=1000)
    sort: str = Field("norm_over_logit_var", description=f"One of: {', '.join(NEURON_COLUMNS)}.")

    @property
    def named(self) -> list[str]:
        return listed(self.neurons)


class SpectrumQuery(Strict):
    k: K = None
    vocab_centred: Annotated[bool, UNCENTRED] = Field(
        True, description="Whether W_U is centred over the vocabulary first."
    )


class NullspaceQuery(SpectrumQuery):
    layer: int | None = Field(None, ge=0, description="The layer whose neurons are shown; null: the last.")


class FrequencyQuery(Strict):
    pass


# on a prompt

Direction = Annotated[
    int | None, Field(ge=0, description="Singular vector to walk along; null: the last informative one.")
]
Reach = Annotated[
    Number, Field(gt=0, le=100, description="How far to walk, in lengths of the centred residual stream.")
]


class WalkRequest(PromptRequest):
    """Move the last residual stream at one token of a prompt along one singular vector of W_U."""

    position: Annotated[Position | None, AT] = Field(None, description="null: the last one.")
    direction: Annotated[Direction, Typed(("--direction", "-d"))] = None
    reach: Reach = 8.0
    vocab_centred: Annotated[bool, UNCENTRED] = Field(
        True, description="Whether W_U is centred over the vocabulary first."
    )


class FrequencyRequest(PromptRequest):
    """KL to the unigram distribution over a prompt, and what one neuron does to it."""

    neuron: NeuronName | None = Field(None, description="A last-layer neuron; null: the most aligned one.")
    position: Position | None = Field(
        None, description="Where it is ablated; null: where it is farthest from what it is set to."
    )


# pages


class AtlasState(PageQuery, NeuronsQuery):
    """The atlas page. Axes, colour and size take any column; `layer=all` shows every layer, the default is the last."""

    model_config = ConfigDict(extra="allow")

    all_layers: bool = False
    x: str = "norm"
    y: str = "logit_var"
    color: str = "rho"
    size: str = ""
    limit: int = Field(25, ge=1, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _all_layers(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("layer") == "all":
            return {key: value for key, value in given.items() if key != "layer"} | {"all_layers": True}
        return given

    @model_validator(mode="after")
    def _known_axes(self) -> Self:
        for name in (self.x, self.y, self.color, self.size):
            if name and name not in self.columns:
                raise ValueError(f"no column {name[:40]!r} to draw; there are: {', '.join(self.columns)}")
        return self


class NullspaceState(PageQuery, NullspaceQuery, AtToken):
    log: bool = Field(True, description="Singular values on a logarithmic axis.")
    direction: Direction = None
    reach: Reach = 8.0
    text: Text = Field("", description="The text of the test walk.")

    def walk(self, **prompt: Any) -> WalkRequest:
        """The test walk on a prompt, by default the page's text."""
        given = prompt or {"text": self.text}
        fields = {name: getattr(self, name) for name in ("direction", "reach", "vocab_centred")}
        return requested(WalkRequest, **given, **fields, position=self.pos or None)

    @property
    def as_it_is(self) -> bool:
        """Whether the walk is the one that is shown where nothing is asked for."""
        return not self.text and not self.pos and self.direction is None and self.reach == NullspaceState().reach


class FrequencyState(PageQuery, AtToken):
    text: Text = ""
    neuron: NeuronName | None = Field(None, description="The neuron whose effect is drawn.")

    def asked(self, **prompt: Any) -> FrequencyRequest:
        """What is asked of a prompt, by default of the page's text."""
        given = prompt or {"text": self.text}
        return requested(FrequencyRequest, **given, neuron=self.neuron, position=self.pos or None)
