"""Whether the process lives, and whether it can serve."""

import asyncio

from fastapi import APIRouter, Request, Response

from app.deps import HostDep
from app.views.core import Health, Ready

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Ready}})
async def readyz(host: HostDep, request: Request, response: Response) -> Ready:
    """200 once every model named at start is loaded, while the database answers."""
    waiting = [key for key, entry in host.entries.items() if entry.state != "loaded"]
    if not await asyncio.to_thread(request.app.state.database.answers):
        waiting.append("database")
    if waiting:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return Ready(
        ready=not waiting, models={key: entry.state for key, entry in host.entries.items()}, waiting_for=waiting
    )
