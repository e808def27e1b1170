"""What a model wrote, and how sure it was at each token."""

from typing import Any, Literal

from pydantic import Field

from app.core.view import ConfidenceView, NextToken, Parts, Provenance, Token, View


class StepNeuronView(View):
    """A last-layer neuron mean-ablated at this step."""

    neuron: str
    activation: float
    d_entropy: Parts

    def flat(self) -> dict[str, Any]:
        """Its columns in a CSV."""
        parts = {f"d_entropy.{part}": value for part, value in self.d_entropy.model_dump().items()}
        return {"name": self.neuron, "activation": self.activation, **parts}


class PromptToken(Token):
    """A token of the prompt."""

    piece: str = Field("", description="The characters that it completes, as of a written token.")


class StepView(View):
    """A written token and the prediction it was chosen from: the distribution as it is, before sampling; nats."""

    position: int
    id: int
    text: str
    given: bool = Field(False, description="Handed over as `written`, and not chosen here.")
    piece: str = Field(
        "", description="The characters that it completes: nothing where it ends within one, as text is shown."
    )
    prob: float
    rank: int = Field(description="0: the most probable.")
    entropy: float
    ln_scale: float
    kl_unigram: float | None
    top: list[NextToken]
    neurons: list[StepNeuronView] = Field(description="Those with the largest change of entropy here.")
    activations: dict[str, float] = Field({}, description="Of the watched neurons.")


class GenerateView(View):
    """The whole; as lines or events one token after another, each with the text that is certain then, and the
    whole last."""

    prompt: list[PromptToken] = Field(description="Of lines and events only the first and the last have it.")
    tokens: list[StepView]
    text: str = Field(description="What was written, in whole characters.")
    finish_reason: Literal["length", "eos", "stop", "context"] | None = Field(
        description="context: what the model or this server reads is full. null: it still writes."
    )
    confidence: ConfidenceView | None = Field(
        None, description="Over what was written, its end of text included; null in a part, and where nothing was."
    )
    provenance: Provenance | None = None
    permalink: str | None = None

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a token."""
        names = ("position", "id", "text", "given", "prob", "rank", "entropy", "ln_scale", "kl_unigram")
        return [
            {name: getattr(step, name) for name in names}
            | {f"activation {neuron}": value for neuron, value in step.activations.items()}
            | _numbered("choice", [{"text": each.text, "prob": each.prob} for each in step.top])
            | _numbered("neuron", [neuron.flat() for neuron in step.neurons])
            for step in self.tokens
        ]


def _numbered(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts of each item as columns: `neuron 1 d_entropy.total`."""
    return {f"{name} {n} {part}": value for n, item in enumerate(items, 1) for part, value in item.items()}
