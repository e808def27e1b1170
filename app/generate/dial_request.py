"""What is asked of a confidence dial."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from analysis.types import InputError
from app.core.grammar import read_dial, reads
from app.core.request import Activation, Listed, Named, NeuronName, PromptRequest, Strict
from app.core.typed import Typed

LOWEST, HIGHEST = -2.0, 4.0
MOST_DIALS = 4
REPEATED = 2000
"""Tokens that are written again for opening a stored answer; beyond it, what was stored is shown."""

AT_ONCE = 4000
"""Tokens that a request writes; SmolLM2 takes about as long for them as a request may (docs/performance.md)."""


class Dial(Strict):
    """Neurons turned together, everywhere in prompt and text."""

    neurons: Annotated[Named[NeuronName], Field(min_length=1, max_length=64)] | Literal["entropy"] = Field(
        description="Of any layer; entropy: those of the last one that are labelled so."
    )
    mode: Literal["scale", "value"] = Field(
        "scale", description="scale: the activation times value; value: held at it."
    )
    value: Activation

    @model_validator(mode="after")
    def _turned_within_reason(self) -> Self:
        if self.mode == "scale" and not LOWEST <= self.value <= HIGHEST:
            raise ValueError(f"a dial turns from {LOWEST:g} to {HIGHEST:g} times the activation")
        if self.neurons != "entropy" and len(set(self.neurons)) < len(self.neurons):
            raise ValueError("a neuron is in the dial twice")
        return self


class DialRequest(PromptRequest):
    """A prompt continued undisturbed, with each dial, and with the twins that would explain a dial away."""

    opened: ClassVar[bool] = True
    dials: Annotated[
        Listed[Annotated[Dial, reads(read_dial)]],
        Field(min_length=1, max_length=MOST_DIALS),
        Typed(("--dial", "-d"), metavar="SPEC", help="3.17,3.20:scale=2, 3.17:value=1.5, entropy:scale=0; repeatable."),
    ] = Field(description="Side by side. Also as texts, such as `3.17,3.20:scale=2`.")
    max_new_tokens: int = Field(40, ge=1, le=256, description="At most so many in a text.")
    temperature: float = Field(0.8, ge=0, le=100, description="Of the draws; 0 takes the most probable token.")
    top_k: int | None = Field(None, ge=1, description="Choose among so many of the most probable.")
    top_p: float | None = Field(None, gt=0, le=1, description="Choose among the fewest that sum to this probability.")
    seed: int = Field(0, ge=0, lt=2**62, description="Of the first text; the others have the seeds after it.")
    seeds: int = Field(1, ge=1, le=50, description="Texts of each kind; with 10 or more the means have intervals.")
    stop_at_eos: bool = Field(True, description="Whether the model's end of text ends a text.")
    twins: bool = Field(
        True, description="Beside each dial the temperature, and random neurons, of the same change of entropy."
    )

    @property
    def tokens(self) -> int:
        """At most so many are written."""
        return (1 + len(self.dials) * (3 if self.twins else 1)) * self.seeds * self.max_new_tokens


def price(request: DialRequest) -> float:
    """What it costs: as a text written once for every 200 tokens."""
    return 10 * max(1.0, request.tokens / 200)


def at_once(request: DialRequest) -> None:
    """InputError for more than a request has time for; a job has."""
    if request.tokens > AT_ONCE:
        raise InputError(
            f"These dials write up to {request.tokens} tokens; at once at most {AT_ONCE} are written.",
            code="too_much_at_once",
            hint="Ask for it as a job (the page's button, POST .../dial/jobs, --as-job with --url), or for fewer "
            "seeds, tokens or dials.",
        )


def short(request: DialRequest) -> bool:
    """Whether it is soon computed again."""
    return request.tokens <= REPEATED


def needs_atlas(request: DialRequest) -> bool:
    """Whether it names neurons by their label."""
    return any(dial.neurons == "entropy" for dial in request.dials)
