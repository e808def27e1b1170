"""Texts written with neurons turned, beside their twins."""

from typing import Any, Literal

from pydantic import Field

from app.core.view import Provenance, Token, View

NUMBERS = {
    "entropy": "Mean entropy (nats)",
    "loss": "Loss under the undisturbed model (nats)",
    "repetition": "Repeated 4-grams",
    "distinct": "Distinct tokens",
    "length": "Length (tokens)",
    "shared": "Tokens before it parts",
}
"""The numbers of a text, as the page calls them."""


class DialNumbers(View):
    """Of one text."""

    entropy: float = Field(description="Mean, of the predictions it was drawn from, before sampling.")
    loss: float = Field(description="Mean, of what was written, under the undisturbed model.")
    repetition: float = Field(description="1 - distinct 4-grams / 4-grams.")
    distinct: float = Field(description="Distinct tokens / tokens.")
    length: float
    shared: float = Field(description="Tokens before it parts from the undisturbed text of the same seed.")


class DialMeanView(View):
    """A mean over texts, and of the difference from the undisturbed text of the same seed. Ends: 95 %, null with fewer
    than 10 texts."""

    mean: float
    low: float | None
    high: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None


class DialTextView(View):
    """One text."""

    seed: int
    text: str
    ended: bool = Field(description="By the model's end of text.")
    token_ids: list[int]
    pieces: list[str] = Field(description="The characters that each token completes.")
    entropy: list[float] = Field(description="Of each prediction.")
    numbers: DialNumbers
    neurons: list[str] = Field([], description="The random neurons of this text.")
    factor: float | None = Field(None, description="What their activations were multiplied by.")


class ArmView(View):
    """The texts written in one way."""

    name: str
    kind: Literal["undisturbed", "dial", "temperature", "neurons"]
    dial: int | None = Field(description="Which of the dials it is, or is a twin of.")
    neurons: list[str] = Field([], description="Those that the dial turns.")
    temperature: float | None = Field(None, description="That the undisturbed logits were divided by.")
    wanted: float | None = Field(None, description="What a twin was to reach on the undisturbed texts: mean entropy, "
                                 "or mean |change of entropy|, nats.")  # fmt: skip
    reached: float | None = Field(
        None,
        description="What it reached there; less where no factor up to 64 of sixteen times as many neurons is enough.",
    )
    texts: list[DialTextView]
    means: dict[str, DialMeanView]


class DialView(View):
    """The undisturbed texts, then those of each dial and its twins."""

    prompt: list[Token]
    arms: list[ArmView]
    seeds: int
    provenance: Provenance
    permalink: str | None = None

    @property
    def deepest(self) -> float:
        """The entropy of the deepest shade: the largest of the texts shown, those of the first seed; at least 4."""
        return max(4.0, *(value for arm in self.arms for value in arm.texts[0].entropy))

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a text."""
        return [
            {
                "arm": arm.name,
                "kind": arm.kind,
                "seed": text.seed,
                **text.numbers.model_dump(),
                "temperature": arm.temperature,
                "neurons": " ".join(text.neurons or arm.neurons),
                "factor": text.factor,
                "text": text.text,
            }
            for arm in self.arms
            for text in arm.texts
        ]
