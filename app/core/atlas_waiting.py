"""The page of a model whose neuron table is still being computed."""

from fastapi import Request, Response
from pydantic import Field

from app.core import pages
from app.core.atlas_caller import AtlasCaller
from app.core.view import View


class Waiting(View):
    """The atlas of a model that is still being computed."""

    model: str
    models: list[str]
    state: str
    stage: str
    fraction: float | None
    eta: float | None
    to: str = Field(description="The page that waits for it.")


def wait(request: Request, asker: AtlasCaller, key: str) -> Response:
    """The page of a table that is being computed; it asks `progress` by itself."""
    query, job = request.url.query, asker.atlases.job(key)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) + (f"?{query}" if query else "")
    view = Waiting(
        model=key,
        models=asker.models,
        state=job.state,
        stage=job.stage,
        fraction=job.fraction,
        eta=job.eta,
        to=request.query_params.get("to", path),
    )
    return pages.respond(request, view, template="atlas_waiting.html", title="Atlas", model=key)
