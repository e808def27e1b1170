"""How far a job is, and what follows from its pace."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is. done, total: of the stage's units. tokens: worked off since the job was last started. idle: it
    waits for something else, and gives up the rest of its turn."""

    stage: str
    done: int = 0
    total: int = 0
    tokens: int = 0
    idle: bool = False


Runner = Callable[[str, str, dict[str, Any]], Iterator[Step]]


@dataclass
class Progress:
    """The running job, as its thread left it. seconds, tokens: since the stage began in this process."""

    job_id: str
    step: Step = field(default_factory=lambda: Step("starting"))
    stage_started: float = field(default_factory=time.monotonic)
    done_at_start: int = 0
    tokens_at_start: int = 0

    def advance(self, step: Step) -> None:
        if step.stage != self.step.stage:
            self.stage_started, self.done_at_start, self.tokens_at_start = time.monotonic(), step.done, step.tokens
        self.step = step

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.stage_started

    @property
    def tokens_per_second(self) -> float | None:
        tokens = self.step.tokens - self.tokens_at_start
        return tokens / self.seconds if tokens > 0 and self.seconds > 0 else None

    @property
    def eta(self) -> float | None:
        """Seconds left of this stage, from its pace so far; None before the first unit is done, or without a total."""
        finished = self.step.done - self.done_at_start
        left = self.step.total - self.step.done  # below 0 in a stage without a total
        return left * self.seconds / finished if left >= 0 < finished else None
