"""A stored answer told to somebody who was not there: what was asked, what was done to the model, what came of it."""

from pydantic import Field

from app.core.view import View


class Shade(View):
    """One token of the strip."""

    text: str
    value: float | None = Field(description="Entropy of the prediction after it, in nats; null where none is shown.")
    selected: bool = False


class Candidate(View):
    """One token that may follow."""

    text: str
    follows: bool
    clean: float | None
    intervened: float | None


class Told(View):
    """What a shared file says before its charts. Empty parts are left out of it."""

    caption: str = Field("", description="What holds here, from the answer's own numbers.")
    interventions: list[str] = Field([], description="In words, in the order in which they were applied.")
    strip: list[Shade] = Field([])
    at: str = Field("", description="The selected token.")
    candidates: list[Candidate] = Field([])
    heads: list[str] = Field([], description="Of `rows`.")
    rows: list[list[str | float | None]] = Field([], description="The neurons at the selected token.")
