"""How the routes of the atlas come by its table: waiting for it, and the evidence of finished sweeps beside it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from app.answers.atlas import Footing
from app.deps import Caller, caller_of
from app.residency.atlas import Atlases

API_PATIENCE = 100.0
"""Seconds that the API waits for a table that is being computed for the first time."""

NOTHING: Mapping[str, Any] = {}

PAGE_PATIENCE = 1.5
"""A page shows the progress instead."""


class Ground:
    """The atlas of a model, for this request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.caller: Caller = caller_of(request)
        self.atlases: Atlases = request.app.state.atlases

    def key(self, model: str | None) -> str:
        """The model that a page shows: the one named, else the server's first."""
        return model or self.caller.host.default_key

    @property
    def models(self) -> list[str]:
        return list(self.caller.host.entries)

    async def ask(self, key: str, function: Any, *args: Any, patience: float = API_PATIENCE) -> Any:
        """`function(resident, footing, *args)` on the device thread, once the table is there."""
        return await self.caller.run(key, function, await self.footing(key, patience=patience), *args)

    async def footing(self, key: str, *, patience: float = API_PATIENCE) -> Footing:
        atlas = await self.atlases.get(key, patience=patience)
        return Footing(atlas, self.atlases, self.evidence(key))

    def evidence(self, key: str) -> Mapping[str, Any]:
        """What finished sweeps found, neuron by neuron; empty when there are none."""
        found = getattr(self.request.app.state, "evidence", None)
        if found is None:
            return NOTHING
        replicas = self.caller.host.entry(key).replicas
        known: Mapping[str, Any] = found(key, replicas[0][1].model.weights_sha256) if replicas else NOTHING
        return known or NOTHING


def ground_of(request: Request) -> Ground:
    return Ground(request)


GroundDep = Annotated[Ground, Depends(ground_of)]
