"""What is asked of a model that writes."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from app.core.request import DO, WATCHED, AnyIntervention, Index, Listed, Named, NeuronName, PromptRequest
from app.core.typed import Typed


def _ids(value: Any) -> Any:
    """Token ids, also as texts with commas between them."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return value
    words = [word.strip() for item in items for word in item.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise ValueError("token ids are whole numbers with commas between them")
    return [int(word) for word in words]


class GenerateRequest(PromptRequest):
    """A prompt continued, and what is told of each token."""

    opened: ClassVar[bool] = True
    max_new_tokens: Annotated[int, Typed(default=40)] = Field(
        64, ge=0, le=2048, description="At most so many, after those of `written`; 0 only tells of these."
    )
    written: Annotated[Listed[Index], BeforeValidator(_ids), Typed(metavar="ID,...")] = Field(
        [],
        description="Token ids that follow the prompt as if they had been written: told like the others, each using up "
        "its draw of the seed. So a text is taken up where it was left, or at another choice of one of its tokens.",
    )
    temperature: float = Field(0.0, ge=0, le=100, description="Divides the logits; 0 takes the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Choose among so many of the most probable.")
    top_p: float | None = Field(None, gt=0, le=1, description="Choose among the fewest that sum to this probability.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of the draws: one seed, one text.")
    stop: Annotated[Listed[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)] = Field(
        [], description="Texts before which it ends."
    )
    stop_at_eos: bool = Field(
        True,
        description="Whether the model's end of text, or of a turn, ends it, as tokenizer or folder name them.",
    )
    interventions: Annotated[Named[AnyIntervention], DO] = Field(
        [],
        description="On neurons of any layer, and on attention heads, while it reads and writes. A head's mean is that "
        "over the prompt; of a trace of the finished text it is the one over all of that text.",
    )
    apply_to: Literal["all", "prompt", "new"] = Field(
        "all", description="Where interventions without positions of their own hold, and where others may."
    )
    neurons: Annotated[Named[NeuronName], WATCHED] = Field(
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

    @model_validator(mode="after")
    def _something_to_tell(self) -> Self:
        if not self.max_new_tokens and not self.written:
            raise ValueError("max_new_tokens is 0 and nothing is written yet: there is nothing to tell")
        return self
