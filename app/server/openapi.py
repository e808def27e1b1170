"""The document of the API, written off the event loop."""

import json
from typing import Any

from fastapi import Request, Response

from app.core.answering import router as routes
from app.core.drawn import Drawn

router = routes(tags=["core"])


@router.get("/api/v1/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """What can be asked here."""
    root = request.scope.get("root_path", "").rstrip("/")

    def written() -> str:
        document: dict[str, Any] = request.app.openapi()
        return json.dumps({**document, "servers": [{"url": root}]} if root else document)

    return Drawn(written, media_type="application/json")
