"""Whether the process lives, and whether it can serve."""

import asyncio
from typing import Any

from fastapi import Request, Response

from app.core import offloop
from app.core.access.roles import public
from app.core.answering import router as routes
from app.core.caller import HostDep
from app.core.view import Health, Ready

router = routes(tags=["health"])
ALIVE = Health().model_dump_json()
SOON = 2.0  # seconds


@router.get("/healthz", response_model=Health)
@public
async def healthz() -> Response:
    """The process answers."""
    return Response(ALIVE, media_type="application/json")  # waits for no thread


@router.get("/readyz", responses={503: {"model": Ready}})
@public
async def readyz(host: HostDep, request: Request, response: Response) -> Ready:
    """200 while the database answers, once every model named at start is loaded or has failed and one is loaded."""
    waiting = host.awaited
    if not await _answers(request.app.state):
        waiting.append("database")
    if waiting:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    states = {key: entry.state for key, entry in host.entries.items()}
    failed = [key for key, state in states.items() if state == "failed"]
    return Ready(ready=not waiting, models=states, waiting_for=waiting, failed=failed)


async def _answers(state: Any) -> bool:
    """Whether the database does, and soon. One question at a time: one that hangs must not take all threads."""
    if (asking := getattr(state, "asking", None)) is None or asking.done():
        asking = state.asking = asyncio.ensure_future(offloop.read(state.database.answers))
    done, _ = await asyncio.wait({asking}, timeout=SOON)
    return bool(done) and bool(asking.result())
