"""A question as a value: what is asked of a model, what answers it, and how every door tells of it.

From a `Question` follow the API's route (JSON, NDJSON, events, CSV, Parquet), the command, the client's method, the
permalink, the price and the role, the entry in the documentation and the label in the metrics (`app.core.doors`). Each
subject lists its own in `questions.py`; `app.registry` has them all.

An answer is `answer(resident, request, **context)` on the device's thread. Its context holds what stands in braces in
the path (`neuron`), and `on`, the model's atlas, where the question rests on it. It returns the view; with `steps` it
is an iterator whose last item is the view.

What a page has computed beside its questions is a plain function with a price (`@priced`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from app.core.later import Later
from app.core.role import Role

PROMPT_PAGE = "prompt"
"""The question that is a whole page, with its selection, interventions and pins; only pages ask it."""
SWEEP = "sweep"
"""The kind of a finished sweep, hours of work that is stored already: shown, never computed again by opening it."""

Function = TypeVar("Function", bound=Callable[..., Any])
Cost = float | Callable[..., float]
Atlas = Literal["no", "needed", "wished"]


class Priced:
    """What somebody may have computed: by whom, and what it costs them."""

    cost: Cost
    role: Role

    def cost_of(self, *asked: Any) -> float:
        """What it takes from a person's bucket, by what decides it."""
        return self.cost(*asked) if callable(self.cost) else self.cost


@dataclass(frozen=True)
class Question(Priced):
    """Something that is computed beside a model for somebody.

    name: the permalinks' kind, the client's method, the metrics' label. says: one sentence, for every door. path:
    below /api/v1/models/{key}/; None: only pages ask it. cost: what it takes from a person's bucket beside the
    price of the request, or a function of the request. role: the least that may have it computed: `view` for what
    follows from the weights or is stored, `run` for all that runs the model. kept: whether answers have a
    permalink. atlas: whether the context has `on`; "wished": it may be None; or a function of the request. job:
    whether it can be a durable job (`app.core.answer_jobs`), without an atlas. settled: `(resident, request,
    **context)`, the request that such a job computes, where its answer rests on the atlas. at_once: `(request)`, an
    InputError for what only a job has the time for. repeats: `(request)`, whether a stored answer is computed again
    when it is opened; None: always. loose: keys of the answer, wherever they stand, that follow from more than the
    request, so that another value there is no difference. lines: the answer as it comes, an iterator of views, for
    a reader of NDJSON or events. charts: by name, from the view. opens: the page that a stored answer opens as,
    `(request, caller, saved)`. every_row: token ids of all rows, `(resident, request, first)`, where an answer
    names those of its first row only. spelled: `(canonical request, limits)`, the options as they are stored, where
    those are not the request's fields. tells: `(view, request)`, what a shared link and file say of it
    (`app.core.told`). before_weights: `(shipped, request)`, the answer for a listed model that is not loaded, from
    what ships of it (`app.core.residency.shipped`). notebook: the cell that computes the stored numbers again.
    prints: prints the answer's JSON in a shell; prints_coming: the views of `lines` as they come. command: its name
    there; None: it has no command of its own.
    """

    name: str
    says: str
    answer: Later
    request: type[BaseModel]
    view: type[BaseModel]
    path: str | None = None
    method: Literal["GET", "POST"] = "POST"
    cost: Cost = 0.0
    role: Role = "run"
    permalink: bool = False
    job: bool = False
    steps: bool = False
    atlas: Atlas | Callable[[Any], Atlas] = "no"
    settled: Later | None = None
    at_once: Callable[[Any], None] | None = None
    repeats: Callable[[Any], bool] | None = None
    loose: frozenset[str] = field(default_factory=frozenset)
    lines: Later | None = None
    charts: Mapping[str, Later] = field(default_factory=dict)
    opens: Later | None = None
    every_row: Later | None = None
    spelled: Later | None = None
    tells: Later | None = None
    before_weights: Later | None = None
    notebook: Later | None = None
    prints: Later | None = None
    prints_coming: Later | None = None
    command: str | None = None

    def atlas_for(self, request: Any) -> Atlas:
        """Whether the answer to a request rests on the atlas."""
        return self.atlas(request) if callable(self.atlas) else self.atlas

    @property
    def path_names(self) -> tuple[str, ...]:
        """The names in braces: what of the question stands in the address."""
        return tuple(re.findall(r"{(\w+)}", self.path or ""))


@dataclass(frozen=True)
class Unasked:
    """A kind of stored result that no question answers. view: what it is read as; tells: `(view, options)`, as of a
    question."""

    view: Later
    tells: Later


@dataclass(frozen=True)
class Price(Priced):
    """What a function costs whoever has it computed, and the least role that may."""

    cost: Cost
    role: Role


def priced(cost: Cost = 0.0, role: Role = "view") -> Callable[[Function], Function]:
    """Declares the price of a function that is run beside a model for somebody; its arguments decide a callable cost.

    The default is for what follows from the weights or is stored: looked up, or soon made.
    """

    def declared(function: Function) -> Function:
        function.price = Price(cost, role)  # type: ignore[attr-defined]
        return function

    return declared


def price_of(function: Callable[..., Any]) -> Price:
    """LookupError for a function without one: nobody may have computed what has no price."""
    found: Price | None = getattr(function, "price", None)
    if found is None:
        raise LookupError(f"{function.__module__}.{function.__qualname__} has no price (app.core.question.priced).")
    return found
