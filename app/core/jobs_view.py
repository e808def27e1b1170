"""A durable piece of work as everybody sees it."""

from typing import Generic, Literal, TypeVar

from pydantic import Field

from app.core.view import View

V = TypeVar("V", bound=View)
State = Literal["queued", "running", "cancelling", "cancelled", "failed", "finished"]


class AnswerJob(View, Generic[V]):
    """A question's answer as a durable job. state: queued, running, cancelling, finished, failed or cancelled."""

    id: str
    model: str
    state: str
    stage: str | None
    progress: float | None = Field(description="0 to 1.")
    eta: float | None = Field(description="Seconds left.")
    queue: int | None = Field(description="Jobs that run before this one.")
    message: str | None
    result: V | None


class JobView(View):
    """A durable piece of work."""

    id: str
    kind: str
    model: str
    state: State
    stage: str
    done: int = Field(description="Units of the stage (shards) that are finished.")
    total: int
    fraction: float | None = Field(description="Of this stage, 0 to 1.")
    tokens_per_second: float | None = None
    eta: float | None = Field(None, description="Seconds left of this stage.")
    ahead: int | None = Field(None, description="Jobs before this one, while it is queued.")
    message: str | None = Field(None, description="Why it failed.")
    result: str | None = Field(None, description="Where its result is.")
    created: float | None = Field(None, description="Seconds since 1970.")
    person: str | None = Field(None, description="Whose it is; null: it ships with the model.")
    name: str | None = Field(None, description="What a sweep is called; null: other work.")
