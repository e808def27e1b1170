"""Every number of the training run, with its reason. `python -m training.loop --set NAME=VALUE` tries another one."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from training.model import Shape


@dataclass(frozen=True)
class Corruption:
    """Rows whose tokens are partly replaced: what makes regulating confidence worthwhile."""

    share: float = 0.45  # of the rows that are not repeats
    low: float = 0.1  # a corrupted row draws its replacement rate from U(low, high)
    high: float = 0.6
    by_frequency: float = 0.5  # share of these rows whose noise is drawn by word frequency, else uniformly


@dataclass(frozen=True)
class Rates:
    """Learning rates and weight decays (decoupled: a step shrinks a weight by rate x decay)."""

    muon: float = 0.02
    muon_momentum: float = 0.95
    muon_decay: float = 0.1
    adam: float = 3e-3
    adam_decay: float = 0.1
    # The last MLP is trained by AdamW, whose steps do not equalise the neurons' norms as Muon's do.
    last_mlp: float = 2e-3
    last_mlp_decay: float = 0.3
    # While the run settles. AdamW moves every weight by the rate, whatever its gradient, so that noise alone holds up
    # a norm of sqrt(rate / 2 decay) a weight, in every neuron alike. One second moment for the whole of the last W_out
    # makes a step proportional to its gradient: with a large decay the neurons keep the norm that they earn.
    settle_out_decay: float = 1.0
    settle_in_decay: float = 1.0
    settle_unembed_decay: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """One run in two phases: at a constant rate until the induction heads have formed, then settling.

    The run settles with fresh optimisers from the snapshot written there (float16 weights, as anybody can take up who
    has it) while the rate falls linearly to 2 %.
    """

    seed: int = 0
    tokens: int = 36_986_112
    settle_from: int = 16_990_208
    warmup_tokens: int = 400_000
    settle_warmup_tokens: int = 100_000
    rows: int = 16  # rows a step
    repeats: float = 0.125  # share of rows that repeat a passage, so that induction heads form
    shape: Shape = field(default_factory=Shape)
    corruption: Corruption = field(default_factory=Corruption)
    rates: Rates = field(default_factory=Rates)

    @classmethod
    def of(cls, run: Path) -> "Recipe":
        """The recipe that a run's folder was started with."""
        return TypeAdapter(cls).validate_json((run / "recipe.json").read_bytes())

    def save(self, run: Path) -> None:
        """Whole or not at all: a run that was killed here must be able to go on."""
        temporary = run / "recipe.json.tmp"
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(run / "recipe.json")

    def changed(self, settings: Iterable[tuple[str, str]]) -> "Recipe":
        """With other numbers, named as `seed` or `shape.slots`. ValueError for a name or a value that does not fit."""
        values = asdict(self)
        for name, value in settings:
            group, _, number = name.rpartition(".")
            numbers: Any = values.get(group) if group else values
            if not isinstance(numbers, dict) or number not in numbers or isinstance(numbers[number], dict):
                raise ValueError(f"The recipe has no number {name!r}; training/recipe.py names them all.")
            numbers[number] = value
        return TypeAdapter(type(self)).validate_python(values)

    @property
    def tokens_a_step(self) -> int:
        return self.rows * self.shape.n_ctx

    @property
    def steps(self) -> int:
        return -(-self.tokens // self.tokens_a_step)

    @property
    def settle_step(self) -> int:
        return self.settle_from // self.tokens_a_step

    def settling(self, step: int) -> bool:
        return step >= self.settle_step

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: warm-up and plateau; warm-up and linear fall to 2 %."""
        done, warmup, fall = step, self.warmup_tokens, 1.0
        if self.settling(step):
            done, warmup = step - self.settle_step, self.settle_warmup_tokens
            fall = 1 - done / (self.steps - self.settle_step)
        rise = (done + 1) * self.tokens_a_step / warmup
        return max(0.02, min(1.0, rise, fall))
