"""Who may come in where. Three roles, each with the rights of those before: view, run, admin.

view: look at pages, tables and stored results. run: compute, write notes and lists, start jobs. admin: load and unload
models, see and end everybody's jobs, take in exports.

A door says on its endpoint what it asks for (`@door(...)`); one that says nothing asks for `view` to look and for `run`
to change. What is computed behind a door is allowed and charged where it is computed (`app.core.caller.Caller`), by the
question and not by the door: so doors at which questions are asked let every role in (`asks`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from app.core.role import ROLES, Role

Need = Literal["public"] | Role
T = TypeVar("T", bound=Callable[..., object])

REFUSED = "nullscope.refused"  # the key of a scope: a page stands in for the answer to this refused form
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Door:
    """role: the least that comes in; `public` without saying who one is. price: what every request costs here."""

    role: Need
    price: float = 1.0


OPEN = Door("public", 0.0)
_LOOK, _CHANGE = Door("view"), Door("run")


def door(role: Need, price: float = 1.0) -> Callable[[T], T]:
    """Declares what an endpoint asks for."""

    def declared(endpoint: T) -> T:
        endpoint.door = Door(role, price)  # type: ignore[attr-defined]
        return endpoint

    return declared


public = door("public", 0.0)
asks = door("view")
"""Of an endpoint that changes nothing here and asks questions of a model: each is allowed and charged as such."""


class Doors:
    """Which door a request stands at: the first of `routes` that answers it, as the router finds it."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = tuple(routes)

    def at(self, scope: Scope) -> Door:
        """The door of an HTTP request; where there is none, that of an endpoint which says nothing."""
        default = _LOOK if scope["method"] in SAFE_METHODS else _CHANGE
        if scope["method"] == "HEAD":  # what it would be told of, were it there
            scope = {**scope, "method": "GET"}
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                declared: Door = getattr(found.get("endpoint"), "door", default)
                return declared
        return default


def allows(role: Role, need: Need) -> bool:
    return need == "public" or ROLES.index(role) >= ROLES.index(need)
