"""The story: five steps, each a sentence made from its numbers and a slider over exact ones."""

from pydantic import BaseModel, ConfigDict, Field

from app.core.view import ErrorBody, Token, View
from app.core.weights_view import Source


class StoryRequest(BaseModel):
    """Nothing is asked but the model."""

    model_config = ConfigDict(extra="forbid")


class Scaled(View):
    """Step 1: entropy of each token of the text, the logits multiplied by each factor."""

    tokens: list[Token]
    factors: list[float]
    entropy: list[list[float]] = Field(description="One list a token, one value a factor.")
    log_vocab: float


class HeldScale(View):
    """Step 2: the last token's prediction with the LN scale held."""

    scales: list[float]
    now: float
    tokens: list[str] = Field(description="The likeliest as it is; their order stays.")
    probs: list[list[float]] = Field(description="One list a scale.")
    entropy: list[float]
    order_stays: bool = Field(description="Whether these tokens keep their order at every scale.")


class WalkSeries(View):
    singular_value: float
    ln_scale: list[float]
    change: list[float] = Field(description="Largest change of a log-probability, the scale held, in nats.")


class Unread(View):
    """Step 3: the last stream moved along a direction of the null space, and along the one that is read most."""

    k: int
    d_model: int
    spectrum: list[float]
    amounts: list[float]
    null: WalkSeries
    read: WalkSeries


class Band(View):
    low: list[float]
    mean: list[float]
    high: list[float]


class StoryDial(View):
    """Steps 4 and 5: a neuron's activation held at each value at the last token."""

    neuron: str
    rho: float | None
    values: list[float]
    now: float
    entropy: list[float]
    ln_scale: list[float]
    kept: list[int] = Field(description="Of the 50 likeliest tokens as it is, how many are still among them.")
    random_entropy: Band | None = None
    random_ln_scale: Band | None = None
    random_kept: list[float] | None = None
    kl_unigram: list[float] | None = None
    points: list[str] = Field([], description="Tokens of all frequencies.")
    frequency: list[float] = Field([], description="log10 of the tokens' share of the counted text.")
    probability: list[list[float]] = Field([], description="log10 P of the same tokens, one list a value.")


class StoryView(View):
    model: str
    text: str
    scaled: Scaled
    held: HeldScale
    unread: Unread
    entropy: StoryDial | None = Field(description="null: no neuron of the last layer carries the label.")
    frequency: StoryDial | None
    rests_on: str = Field(description="What the labels rest on.")
    provenance: Source


class TourView(View):
    """The page of the story."""

    model: str
    story: StoryView | None = None
    problem: ErrorBody | None = None
