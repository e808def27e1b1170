"""Whoever asks about a model's neurons: pages of the atlas have parts computed from it, and ask questions."""

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request

from app.core import offloop
from app.core.caller import Caller, caller_of
from app.core.question import Question
from app.core.residency import shipped
from app.core.residency.atlas import Atlases
from app.core.residency.shipped import ShippedContext
from app.core.run import API_PATIENCE as API_PATIENCE
from app.core.run import PAGE_PATIENCE as PAGE_PATIENCE
from app.core.run import ask, atlas_source, before_weights


class AtlasCaller:
    """The sender of this request, and the atlases of the models."""

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

    async def with_shipped(self) -> list[str]:
        """The served models, and those listed whose atlas ships."""
        return list(dict.fromkeys([*self.models, *await offloop.read(shipped.names)]))

    async def before_weights(self, key: str, sweep: str | None) -> ShippedContext | None:
        """What ships of a model that is not loaded; None for one that is, and where nothing ships.

        sweep: as of `run`.
        """
        return await before_weights(self.caller, key, sweep)

    async def ask(
        self, key: str, question: Question, request: BaseModel, *, patience: float = API_PATIENCE, **path: Any
    ) -> Any:
        """`app.core.run.ask` as this person."""
        return await ask(self.caller, question, key, request, patience=patience, **path)

    async def run(
        self, key: str, function: Any, *args: Any, sweep: str | None = None, patience: float = API_PATIENCE
    ) -> Any:
        """`function(resident, source, *args)`, which has a price, on the device thread, once the atlas is there.

        sweep: the one whose evidence counts; None: the largest that fits.
        """
        source = await atlas_source(self.caller, key, sweep=sweep, patience=patience)
        return await self.caller.run(key, function, source, *args)


def atlas_caller_of(request: Request) -> AtlasCaller:
    return AtlasCaller(request)


AtlasCallerDep = Annotated[AtlasCaller, Depends(atlas_caller_of)]
