"""Every number of the training run, with its reason. `train-demo` changes none of them but the token budget."""

from dataclasses import dataclass, field

from training.model import Shape


@dataclass(frozen=True)
class Corruption:
    """Rows whose tokens are partly replaced: what makes regulating confidence worthwhile."""

    share: float = 0.45  # of the rows that are not repeats
    low: float = 0.1  # a corrupted row draws its replacement rate from U(low, high)
    high: float = 0.6


@dataclass(frozen=True)
class Rates:
    """Learning rates and weight decays (decoupled: a step shrinks a weight by rate x decay)."""

    muon: float = 0.02
    muon_momentum: float = 0.95
    muon_decay: float = 0.1
    adam: float = 3e-3
    adam_decay: float = 0.1
    # The last MLP is trained by AdamW, whose steps do not equalise the neurons' norms as Muon's do. A smaller step
    # and a larger
    # decay keep the norms that noise alone sustains, sqrt(rate / decay), low: neurons with a steady gradient stand out.
    last_mlp: float = 2e-3
    last_mlp_decay: float = 0.3
    # Over the last `firm_tokens` it shrinks by this much a step however small the rate has become: neurons that earn
    # their
    # norm hold it against the pull, the norm that noise built up in the others goes.
    last_mlp_firm: float = 1.5e-3


@dataclass(frozen=True)
class Recipe:
    """One run. The learning rate warms up, stays, and falls linearly over the last `decay_tokens` (so a run can be
    ended anywhere)."""

    seed: int = 0
    tokens: int = 40_000_000
    decay_tokens: int = 10_000_000
    warmup_tokens: int = 400_000
    firm_tokens: int = 7_232_000
    rows: int = 16  # rows a step
    repeats: float = 0.125  # share of rows that repeat a passage, so that induction heads form
    shape: Shape = field(default_factory=Shape)
    corruption: Corruption = field(default_factory=Corruption)
    rates: Rates = field(default_factory=Rates)

    @property
    def tokens_a_step(self) -> int:
        return self.rows * self.shape.n_ctx

    @property
    def steps(self) -> int:
        return -(-self.tokens // self.tokens_a_step)

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: warm-up, plateau, linear fall to 2 %."""
        seen = step * self.tokens_a_step
        rise = (seen + self.tokens_a_step) / self.warmup_tokens
        fall = (self.tokens - seen) / self.decay_tokens
        return max(0.02, min(1.0, rise, fall))

    def last_mlp_decay(self, step: int) -> float:
        """Weight decay of the last MLP at a step; times the rate of that step it is the share by which a weight
        shrinks."""
        if step * self.tokens_a_step < self.tokens - self.firm_tokens:
            return self.rates.last_mlp_decay
        return self.rates.last_mlp_firm / (self.rates.last_mlp * self.rate_factor(step))
