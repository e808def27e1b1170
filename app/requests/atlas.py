"""Requests over the weights of a model: the table of neurons, one neuron, the spectrum, token frequency."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from app.requests.core import NEURON_PATTERN, NeuronName, PromptRequest, Strict, TableRequest, Text

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
    "skew",
    "kurtosis",
    "rho",
    "frequency_alignment",
    "te",
    "de",
    "ln_mediated_fraction",
    "frequency_mediated_fraction",
    "mean_abs_d_entropy",
    "mean_abs_d_kl",
)
LabelName = Literal["entropy", "token-frequency", "prediction", "suppression", "partition"]
NEURON_LIST = r"^\s*(\d{1,4}\.\d{1,7}([\s,]+|$))*$"
SIDE = r"^[A-Za-z0-9._-]{1,80}(@\d{1,15})?$"
K = Annotated[
    int | None, Field(ge=1, description="Dimension of the null space; null: the knee's, else 1 % of d_model.")
]


class NeuronsQuery(TableRequest):
    """Which neurons to list. `min_<column>` and `max_<column>` filter."""

    columns: ClassVar[tuple[str, ...]] = NEURON_COLUMNS

    layer: int | None = Field(None, ge=0, description="null: every layer.")
    k: K = None
    label: LabelName | None = Field(None, description="Only neurons that carry this label.")
    neurons: str = Field("", max_length=12_000, pattern=NEURON_LIST, description="Only these, separated by commas.")
    sort: str = Field("norm_over_logit_var", description=f"One of: {', '.join(NEURON_COLUMNS)}.")

    @property
    def named(self) -> list[str]:
        return self.neurons.replace(",", " ").split()


class NeuronQuery(Strict):
    k: K = None


class SpectrumQuery(Strict):
    k: K = None
    vocab_centred: bool = Field(True, description="Whether W_U is centred over the vocabulary first.")


class NullspaceQuery(SpectrumQuery):
    layer: int | None = Field(None, ge=0, description="The layer whose neurons are shown; null: the last.")


class FrequencyQuery(Strict):
    pass


class Sides(Strict):
    """Two sides, each a model, or `model@tokens` for a checkpoint of its training."""

    a: str | None = Field(None, pattern=SIDE, description="null: the server's first model.")
    b: str | None = Field(None, pattern=SIDE, description="null: the next thing there is.")
    k: K = None


class SidesQuery(Sides):
    training: bool = Field(False, description="The entropy neurons of side a through its checkpoints, too.")


# on a prompt

Direction = Annotated[
    int | None, Field(ge=0, description="Singular vector to walk along; null: the last informative one.")
]
Reach = Annotated[float, Field(gt=0, le=100, description="How far to walk, in lengths of the centred residual stream.")]


class WalkRequest(PromptRequest):
    """Move the last residual stream of a prompt along one singular vector of W_U."""

    direction: Direction = None
    reach: Reach = 8.0
    vocab_centred: bool = Field(True, description="Whether W_U is centred over the vocabulary first.")


class FrequencyRequest(PromptRequest):
    """KL to the unigram distribution over a prompt, and what one neuron does to it."""

    neuron: NeuronName | None = Field(None, description="A last-layer neuron; null: the most aligned one.")


# pages


class PageQuery(Strict):
    """What every page of the atlas understands."""

    model: str | None = None
    format: Literal["html", "json", "csv", "parquet"] = "html"

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """A form sends its empty fields too; they mean the default."""
        return {key: value for key, value in given.items() if value != ""} if isinstance(given, dict) else given


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


class NeuronState(PageQuery, NeuronQuery):
    text: Text = Field("", max_length=4000, description="A text to watch the neuron on; empty: the bundled sample.")


class NullspaceState(PageQuery, NullspaceQuery):
    log: bool = Field(True, description="Singular values on a logarithmic axis.")
    direction: Direction = None
    reach: Reach = 8.0
    text: Text = Field("", max_length=4000, description="The text of the test walk.")


class FrequencyState(PageQuery):
    text: Text = Field("", max_length=4000)
    neuron: str | None = Field(None, pattern=NEURON_PATTERN, description="The neuron whose effect is drawn.")


class CompareState(PageQuery, Sides):
    """The compare page."""
