"""The requests of the effects pages: heat map, joint sets, dose response, LN ledger."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.core.request import (
    AT,
    BASELINE,
    ONE_OF_SET,
    ONLY,
    Activation,
    BaselineValue,
    Named,
    NeuronName,
    Position,
    PromptRequest,
    SwitchedRequest,
)
from app.core.typed import Typed

HeatMetric = Literal["d_entropy", "d_loss", "d_kl_unigram", "kl"]
HeatPart = Literal["total", "direct", "mlp_norm", "ln_mediated", "ln_only", "frequency_mediated"]
HeatSort = Literal["max_abs", "mean_abs", "mean", "neuron"]
NeuronSet = Annotated[Named[NeuronName], Field(min_length=1)]


class HeatmapRequest(SwitchedRequest):
    """Every token by every last-layer neuron: each ablated by itself at each token, and measured there."""

    baseline: Annotated[BaselineValue, BASELINE] = Field("mean", description="The value an ablated neuron is set to.")
    neurons: Annotated[Literal["all"] | NeuronSet, ONLY] = "all"
    metric: HeatMetric = "d_entropy"
    part: HeatPart = "total"
    sort: HeatSort = Field("max_abs", description="Which rows come first: by this column of the neurons.")
    limit: Annotated[int, Typed(default=16)] = Field(64, ge=1, le=1000, description="Rows returned.")

    @model_validator(mode="after")
    def _kl_has_no_parts(self) -> Self:
        if self.metric == "kl" and self.part not in ("total", "direct"):
            raise ValueError("KL(P||P') has the parts total and direct only")
        return self


class TokenRequest(SwitchedRequest):
    """One token of a prompt."""

    position: Annotated[Position | None, AT] = Field(None, description="null: the last one.")


class JointRequest(TokenRequest):
    """A set of last-layer neurons ablated together at one token, beside each of them alone."""

    neurons: Annotated[NeuronSet, ONE_OF_SET]
    baseline: Annotated[BaselineValue, BASELINE] = "mean"


class DoseRequest(TokenRequest):
    """A set's activations clamped to one value after another at one token."""

    neurons: Annotated[NeuronSet, ONE_OF_SET]
    low: Activation | None = Field(
        None, description="First dose; null: the lowest activation of the set in this prompt."
    )
    high: Activation | None = Field(None, description="Last dose; null: the highest.")
    steps: Annotated[int, Typed(default=11)] = Field(41, ge=2, le=401, description="How many doses.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be less than high")
        return self


class LensRequest(PromptRequest):
    """The prompt read out behind every attention and MLP."""

    scale: Literal["own", "frozen"] = Field(
        "own",
        description="own: the LN scale of each stream; frozen: the last stream's (early layers read near uniform).",
    )
    of: Literal["stream", "block"] = Field(
        "stream", description="stream: what has been written so far; block: what the block wrote, alone."
    )
    top_k: Annotated[int, Typed(default=1)] = Field(5, ge=1, le=50, description="How many next tokens to list.")


class LedgerRequest(PromptRequest):
    """The squared LN scale at one token, split over everything that wrote to the residual stream."""

    position: Annotated[Position | None, AT] = Field(None, description="null: the last one.")
    k: int | None = Field(None, ge=1, description="Dimension of the null space; null: at the knee of the spectrum.")
    limit: Annotated[int, Typed(default=10)] = Field(
        50, ge=0, le=1000, description="Last-layer neurons listed, by absolute share."
    )
