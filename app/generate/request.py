"""What is asked of a model that writes."""

from typing import Annotated, Literal

from pydantic import Field

from app.core.request import DO, WATCHED, AnyIntervention, NeuronName, PromptRequest
from app.core.typed import Typed


class GenerateRequest(PromptRequest):
    """A prompt continued, and what is told of each token."""

    max_new_tokens: Annotated[int, Typed(default=40)] = Field(64, ge=1, le=2048, description="At most so many.")
    temperature: float = Field(0.0, ge=0, le=100, description="Divides the logits; 0 takes the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Choose among so many of the most probable.")
    top_p: float | None = Field(None, gt=0, le=1, description="Choose among the fewest that sum to this probability.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of the draws: one seed, one text.")
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)] = Field(
        [], description="Texts before which it ends."
    )
    stop_at_eos: bool = Field(True, description="Whether the model's end of text ends it.")
    interventions: Annotated[list[AnyIntervention], DO] = Field(
        [], description="On neurons of any layer, and on attention heads, while it reads and writes."
    )
    apply_to: Literal["all", "prompt", "new"] = Field(
        "all", description="Where interventions without positions of their own hold, and where others may."
    )
    neurons: Annotated[list[NeuronName], WATCHED] = Field(
        [], description="Neurons of any layer whose activations to return at each token."
    )
    top_neurons: int = Field(
        0,
        ge=0,
        le=50,
        description="Last-layer neurons with the largest change of entropy (mean ablation) at each token.",
    )
    alternatives: Annotated[int, Typed(default=3)] = Field(
        5, ge=0, le=50, description="How many of the most probable tokens to list at each step."
    )
