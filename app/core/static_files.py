"""Our files, under addresses that carry their content's hash, so that what they name never changes."""

import gzip
import mimetypes
from functools import cache
from typing import Any

from anyio import open_file  # noqa: F401  (the static files' responses import it with the first file, on the loop)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from app.core.access.roles import OPEN, public
from app.core.pages import STATIC
from app.core.theme import plotly_js


def static_routes() -> list[BaseRoute]:
    """Our files, and plotly.js under a versioned address."""
    mimetypes.init()  # reads files, which the first response would do on the loop
    return [
        Route("/static/plotly/{version}/plotly.min.js", _plotly, methods=["GET", "HEAD"]),
        Mount("/static", _Cached(directory=STATIC), name="static"),
    ]


class _Cached(StaticFiles):
    """Addresses carry the content's hash, so what they name never changes."""

    door = OPEN

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


@cache
def _plotly_body() -> bytes:
    return gzip.compress(plotly_js()[0].read_bytes(), compresslevel=6)


@public
def _plotly(request: Request) -> Response:
    if request.path_params["version"] != plotly_js()[1]:
        return Response(status_code=404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(_plotly_body(), 200, headers, "text/javascript")
    return Response(plotly_js()[0].read_bytes(), 200, headers, "text/javascript")
