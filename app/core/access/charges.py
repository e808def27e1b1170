"""What a request has paid for what it computes, and what becomes of that where it is refused.

Somebody pays once, for what is computed. Refused before the model was put to work, the price goes back; refused later,
it pays for what the same request has computed in its place: the page without what could not hold.
"""

from dataclasses import dataclass
from types import TracebackType

from analysis.types import NullscopeError
from app.core.access.rates import Buckets
from app.core.errors import ClientGoneError

LATE = frozenset({"timeout", "out_of_memory"})
"""Codes of refusals that come after the work was begun."""


@dataclass
class Paid:
    """Of one request. answered: for answers that were given. for_refused: for those that were not, though the model had
    worked for them; what is computed in their place costs so much less."""

    answered: float = 0.0
    for_refused: float = 0.0

    def refuse(self) -> None:
        """Another page takes the place of all that was answered so far."""
        self.for_refused += self.answered
        self.answered = 0.0


@dataclass(frozen=True)
class Charge:
    """`cost` of one answer, `taken` of it from the bucket of `name`; a block that computes the answer."""

    rates: Buckets
    name: str
    cost: float
    taken: float
    paid: Paid

    def __enter__(self) -> "Charge":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        late = isinstance(error, ClientGoneError) or getattr(error, "code", "") in LATE
        if not isinstance(error, NullscopeError) or late:
            self.paid.answered += self.cost
        elif error.computed:
            self.paid.for_refused += self.cost
        else:
            self.give_back()

    def give_back(self) -> None:
        """Nothing was computed."""
        self.rates.give_back(self.name, self.taken)
        self.paid.for_refused += self.cost - self.taken
