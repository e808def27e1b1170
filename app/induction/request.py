"""The requests of the induction lab: which repeated text, and what to do with it."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.core.request import HeadName, Index, Listed, Named, NeuronName, Strict, Text

Kind = Literal["natural", "random", "text"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
MAX_COPIES = 8


class RepeatRequest(Strict):
    """Rows [BOS] unit (separator unit)*."""

    kind: Kind = Field(
        "natural", description="natural: windows of the model's sample text; random: random ids; text: your own."
    )
    text: Text | None = Field(None, description="Your own text, for the kind text: one row.")
    seed: Seed = Field(0, description="Which windows, ids and corrupted tokens are drawn.")
    rows: int = Field(16, ge=1, description="How many rows; the kind text has one.")
    length: int | None = Field(
        None, ge=4, description="Tokens of one copy; null: the paper's 99, or what the context allows."
    )
    copies: int = Field(2, ge=2, le=MAX_COPIES)
    separator: Text = Field("", max_length=200, description="Text between two copies.")
    corrupt: int = Field(0, ge=0, description="How many tokens of the second copy are replaced, drawn for each row.")
    corrupt_at: Listed[Index] = Field(
        [], max_length=512, description="Which tokens of the second copy are replaced, counted from 0."
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "text") != (self.text is not None):
            raise ValueError("text is needed for the kind text, and only there")
        if self.text is not None and not self.text.strip():
            raise ValueError("the text is empty")
        if self.corrupt and self.corrupt_at:
            raise ValueError("give either corrupt or corrupt_at")
        return self

    @property
    def n_rows(self) -> int:
        """What the operator's limit is about."""
        return 1 if self.kind == "text" else self.rows


class InductionRequest(RepeatRequest):
    """Curves by position, every last-layer neuron by its weighted difference, and clipped ablation."""

    neurons: Named[NeuronName] = Field([], description="Neurons of any layer whose activations are drawn.")
    clip: Named[NeuronName] = Field([], description="Last-layer neurons that are clipped together.")
    controls: int = Field(20, ge=0, le=100, description="Sets of random directions beside it; a p-value needs 20.")
    limit: int = Field(50, ge=1, le=100_000, description="Rows of the ranking, largest absolute difference first.")


class HeadsRequest(Strict):
    """Induction scores of every head on random ids, and one head's pattern."""

    seed: Seed = 0
    rows: int = Field(8, ge=1)
    length: int | None = Field(None, ge=4, description="Tokens of one copy; null: 100, or what the context allows.")
    pattern: HeadName | None = Field(None, description="A head whose attention on the first row to return.")

    @property
    def n_rows(self) -> int:
        """What the operator's limit is about."""
        return self.rows


class AttributionRequest(RepeatRequest):
    """What drives a neuron: its pre-activation split over heads, MLPs and the embedding."""

    neuron: NeuronName


class HeadAblationRequest(RepeatRequest):
    """Heads taken out at each query of the repeat by itself, against random heads."""

    rows: int = Field(4, ge=1)
    heads: Named[HeadName] = Field(min_length=1)
    neurons: Named[NeuronName] = Field(min_length=1, description="Whose activation is read.")
    mode: Literal["bos", "mean", "zero"] = "bos"
    random: int = Field(3, ge=0, le=20, description="Random heads, and random sets of as many heads.")
    queries: int = Field(32, ge=1, description="At most so many positions of the second copy, evenly spread.")


class NaturalRequest(Strict):
    """6-grams that occur twice in a row of a text, both occurrences laid over each other."""

    text: Text | None = Field(None, description="Your own text, to be searched; null: the model's sample text.")
    clip: Named[NeuronName] = Field([], description="Last-layer neurons that are clipped together.")
    passages: int = Field(64, ge=1, description="At most so many, in the order of the text.")

    @field_validator("text")
    @classmethod
    def _not_empty(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("the text is empty")
        return value

    @property
    def n_rows(self) -> int:
        """What the operator's limit is about."""
        return self.passages
