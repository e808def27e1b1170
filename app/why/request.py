"""What is asked of one prediction: its entropy, loss or a token's log-probability, split over all that wrote to it."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from app.core.grammar import read_scale, reads
from app.core.request import AT, DO, Interventions, Number, Position, PromptRequest, SwitchedRequest, Text
from app.core.typed import Typed
from app.core.wording import spelled

TargetName = Literal["entropy", "loss", "log_prob"]
TokenId = Annotated[int, Field(ge=0)]  # forms send it as text
BaselineText = Literal["reference", "prompt"]
MOST_TOKEN = 100  # characters of a token that is typed


def last_position(n_tokens: int, target: str) -> int:
    """The last token of a text behind which there is something to split: no next token, no loss."""
    return n_tokens - (2 if target == "loss" else 1)


class SplitRequest(SwitchedRequest):
    """What is split, under which interventions, and against which baseline."""

    target: TargetName = Field(
        "entropy",
        description='"entropy", "loss" (of the token that follows), or {"token_id": n} or {"token": " the"}: its '
        "log-probability.",
    )
    token_id: TokenId | None = Field(None, description="For log_prob: the token's id.")
    token: Annotated[Text, Field(min_length=1, max_length=MOST_TOKEN)] | None = Field(
        None, description="For log_prob: the token as text, its space in front with it; ␣ is read as one."
    )
    baseline: BaselineText = Field(
        "reference",
        description="reference: means over the model's reference text; prompt: means over this prompt, undisturbed.",
    )
    interventions: Annotated[Interventions, DO] = Field(
        [], description="What is done to the pass whose prediction is split, as in a trace. Also as texts, `3.17:zero`."
    )

    @model_validator(mode="before")
    @classmethod
    def _token_as_target(cls, data: Any) -> Any:
        chosen = data.get("target") if isinstance(data, dict) else None
        if isinstance(chosen, dict) and set(chosen) in ({"token_id"}, {"token"}):
            return {**data, "target": "log_prob", **chosen}
        return data

    @model_validator(mode="after")
    def _token_fits(self) -> Self:
        named = (self.token_id is not None) + (self.token is not None)
        if named != (self.target == "log_prob"):
            raise ValueError("the target log_prob needs one of token and token_id, and no other target has any")
        return self


class WhyRequest(SplitRequest):
    """One prediction taken apart."""

    position: Annotated[Position | None, AT] = Field(None, description="null: the last one that has the target.")
    neurons: Annotated[int, Typed(default=8)] = Field(
        12, ge=0, le=256, description="Last-layer neurons listed singly, by size; the others are summed."
    )
    ablate: bool = Field(
        False, description="Beside each part its mean ablation at this token, by a real pass (takes longer)."
    )


OTHER = Typed(
    ("--other-intervene",), metavar="SPEC", help="On the other prediction's pass: 3.17:zero, L3H2:bos; repeatable."
)


OTHER_SCALE = Typed(help="Hold the final LN scale of the other prediction's pass at this number, or at 'median'.")


class WhyCompareRequest(SplitRequest):
    """Two predictions, and what makes the difference; of one text, or of two."""

    position: Annotated[Position | None, AT] = Field(None, description="null: the last one that has the target.")
    other_position: Position | None = Field(None, description="null: the last one of its text that has the target.")
    other_text: Text | None = Field(None, description="The text of the other prediction; null: the same.")
    other_interventions: Annotated[Interventions, OTHER] = Field(
        [], description="What is done to the other prediction's pass, as in a trace. Also as texts, `3.17:zero`."
    )
    other_ln_scale: Annotated[
        Literal["median"] | Annotated[Number, Field(ge=1e-6, le=1e6)] | None, reads(read_scale), OTHER_SCALE
    ] = Field(None, description="The final LN scale of the other prediction's pass, held at this constant.")
    neurons: Annotated[int, Typed(default=8)] = Field(
        12, ge=0, le=256, description="Last-layer neurons listed singly, by size of the difference."
    )


class CircuitRequest(PromptRequest):
    """What drives a neuron at a token, or a component's share of the entropy there, followed back."""

    component: str = Field(
        pattern=spelled(
            r"^([0-9]{1,4}\.[0-9]{1,7}|L[0-9]{1,4}H[0-9]{1,4}|L[0-9]{1,4}\.mlp)$",
            "a neuron, 3.62, a head, L2H3, or an MLP, L0.mlp",
        ),
        description="A neuron, 3.62; of a prediction's entropy or loss also a head, L2H3, or an MLP, L0.mlp.",
    )
    of: Literal["activation", "entropy", "loss"] = Field(
        "activation", description="A neuron's activation; or its share of the prediction's entropy or loss, in nats."
    )
    position: Annotated[Position | None, AT] = Field(None, description="null: the last one that has it.")
    average: bool = Field(
        False, description="Instead of one position: the mean of the activation over the text's tokens."
    )
    baseline: BaselineText = Field(
        "reference", description="reference: means over the model's reference text; prompt: means over this prompt."
    )
    hops: int = Field(3, ge=1, le=8, description="How far back.")
    width: int = Field(
        200,
        ge=1,
        le=1000,
        description="Parts drawn of a node at most; where they do not have 90 % of its mass, it is told.",
    )
    most: int = Field(24, ge=1, le=200, description="Nodes that are split at most; how many were left is told.")
    check: bool = Field(False, description="Every edge checked by a patched pass (takes longer).")

    @model_validator(mode="after")
    def _activations_are_of_neurons(self) -> Self:
        if self.of == "activation" and self.component.startswith("L"):
            raise ValueError("an activation is a neuron's, such as 3.62; of a head or an MLP ask for the entropy")
        if self.average and (self.of != "activation" or self.position is not None):
            raise ValueError("the average is of a neuron's activation, and over all positions: give none")
        return self


class WhyTextRequest(SplitRequest):
    """Every prediction of a prompt taken apart."""

    limit: Annotated[int, Typed(default=8)] = Field(
        12, ge=1, le=1000, description="Components listed singly, by mean size over the prompt; the others are summed."
    )
