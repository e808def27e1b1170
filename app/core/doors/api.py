"""The JSON API of questions: one route each, made from its value.

JSON by default; with an Accept header NDJSON or server-sent events as the answer comes (where it does), or its table as
CSV or Parquet: all of it, unless the request names a page.
"""

from collections.abc import Callable, Iterable
from functools import partial
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from analysis.types import InputError
from app.core import csv, offloop
from app.core.access.roles import asks
from app.core.answer_jobs import AnswerJobsDep
from app.core.answering import router as routes
from app.core.caller import CallerDep
from app.core.drawn import Drawn
from app.core.jobs_view import AnswerJob
from app.core.lines import EVENTS, NDJSON, in_lines, wants_lines
from app.core.owned_jobs import JobsDep, owned
from app.core.question import Question
from app.core.request import NeuronName, TableRequest
from app.core.run import answered, ask, lines, settled

TABLES: dict[str, Callable[[BaseModel], str | bytes]] = {
    "text/csv": csv.as_csv,
    "application/vnd.apache.parquet": csv.as_parquet,
}
STORE = Annotated[bool, Query(description="Store the answer, so that it has a permalink.")]
IN_PATH: dict[str, Any] = {"neuron": NeuronName}


def router_of(questions: Iterable[Question]) -> APIRouter:
    """A route for every question that has a path."""
    router = routes(prefix="/api/v1/models/{key}", tags=["questions"])
    for question in questions:
        if question.path is not None:
            content: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in TABLES}
            if question.lines:
                content |= {kind: {"schema": {"type": "string"}} for kind in (NDJSON, EVENTS)}
            if question.job:
                _as_job(router, question)
            router.add_api_route(
                f"/{question.path}",
                asks(_endpoint(question)),
                methods=[question.method],
                response_model=question.view,
                description=question.says,
                responses={200: {"content": content}},
                name=question.name,
            )
    return router


def _endpoint(question: Question) -> Any:
    """The handler: its parameters are the question's own, so that FastAPI reads and documents them."""

    async def endpoint(
        *, key: str, asked: Any, caller: Any, request: Request, store: bool = False, **context: Any
    ) -> Any:
        wanted, kind = wants_lines(request) if question.lines else None, _table_of(request)
        if store and (wanted or kind):
            raise InputError(
                "A table and lines have no place for a permalink.", code="nothing_to_store", hint="Ask for JSON."
            )
        if wanted:
            return await in_lines(lines(caller, question, key, asked), wanted)
        if kind is None:
            return await ask(caller, question, key, asked, store=store, **context)
        asked = asked.whole() if isinstance(asked, TableRequest) else asked
        view = await answered(caller, question, key, asked, **context)
        return _as_table(question, view, kind)

    of_request = Annotated[question.request, Query()] if question.method == "GET" else question.request
    kinds = {"key": str, **{name: IN_PATH.get(name, str) for name in question.path_names}, "asked": of_request}
    kinds |= {"caller": CallerDep, "request": Request}
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in kinds.items()]
    if question.permalink:
        parameters.append(Parameter("store", Parameter.KEYWORD_ONLY, default=False, annotation=STORE))
    endpoint.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    endpoint.__name__ = question.name
    endpoint.__doc__ = question.says
    return endpoint


def _as_job(router: APIRouter, question: Question) -> None:
    """The same as a durable job: started, asked how far it is and for its result, ended."""
    view: Any = AnswerJob[question.view]  # type: ignore[name-defined]
    path = f"/{question.path}/jobs"
    of = "{job_id}"

    async def start(*, key: str, asked: Any, caller: CallerDep, jobs: AnswerJobsDep) -> Any:
        async with settled(caller, question, key, asked) as known:
            return await offloop.write(jobs.submit, question, key, known, person=caller.person)

    async def read(key: str, job_id: str, jobs: AnswerJobsDep) -> Any:
        return await offloop.read(jobs.view, question, job_id)

    async def cancel(key: str, job_id: str, caller: CallerDep, jobs: AnswerJobsDep, every: JobsDep) -> Any:
        await owned(caller, every, job_id)
        return await offloop.write(jobs.cancel, question, job_id)

    start.__annotations__["asked"] = question.request
    for method, where, endpoint, says in (
        ("POST", path, start, f"As a durable job, for what takes longer than a request may. {question.says}"),
        ("GET", f"{path}/{of}", read, "How far the job is, and its result once it has finished."),
        ("POST", f"{path}/{of}/cancel", cancel, "Stop it after the step that it is at."),
    ):
        router.add_api_route(
            where,
            endpoint,
            methods=[method],
            response_model=view,
            status_code=202 if endpoint is start else 200,
            description=says,
            name=f"{endpoint.__name__}_{question.name}_job",
        )


def _table_of(request: Request) -> str | None:
    """The kind of table that the reader asks for instead of JSON."""
    accept = request.headers.get("accept", "")
    return next((kind for kind in TABLES if kind in accept), None)


def _as_table(question: Question, view: BaseModel, kind: str) -> Response:
    """The answer's table as a file."""
    ending = "csv" if kind == "text/csv" else "parquet"
    headers = {"Content-Disposition": f'attachment; filename="{question.name}.{ending}"'}
    return Drawn(partial(TABLES[kind], view), 200, headers, kind)
