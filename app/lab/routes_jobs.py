"""Long work and the device's queue: mine, or everybody's for an administrator. The API and its page."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel

from app.core import offloop, pages
from app.core.answering import router as routes
from app.core.caller import CallerDep
from app.core.errors import ForbiddenError
from app.core.jobs import Jobs
from app.core.jobs_view import JobView
from app.core.owned_jobs import JobsDep, job_view, owned
from app.core.store import Job
from app.lab.jobs_view import JobsView, QueueView
from app.lab.to_view import queue as shown_queue

router = routes(tags=["jobs"])


class JobsQuery(BaseModel):
    """Whose jobs."""

    who: Literal["mine", "lab"] = "mine"


def _row(job: Job, jobs: Jobs, places: Mapping[str, int] | None = None) -> JobView:
    result = f"/api/v1/sweeps/{job.id}" if job.kind == "sweep" else None
    return job_view(job, jobs, result=result, places=places)


def _rows(jobs: Jobs, person: str | None) -> list[JobView]:
    places = jobs.places()
    return [_row(job, jobs, places) for job in jobs.every(person=person)]


@router.get("/api/v1/queue")
async def queue(caller: CallerDep) -> QueueView:
    """What waits for the devices or runs: my requests with their places, everybody's for an administrator."""
    return shown_queue(caller.host, None if caller.identity.is_admin else caller.person)


@router.get("/api/v1/jobs")
async def listed(caller: CallerDep, jobs: JobsDep, query: Annotated[JobsQuery, Query()]) -> JobsView:
    """Long work, newest first: mine; everybody's for an administrator who asks for it."""
    admin = caller.identity.is_admin
    if query.who == "lab" and not admin:
        raise ForbiddenError("Everybody's jobs are an administrator's to see.", code="role", hint="Ask for your own.")
    person = None if query.who == "lab" else caller.person
    rows = await offloop.read(_rows, jobs, person)
    return JobsView(person=caller.person, is_admin=admin, who=query.who, rows=rows, queue=await queue(caller))


@router.get("/api/v1/jobs/{job_id}")
async def one(job_id: str, caller: CallerDep, jobs: JobsDep) -> JobView:
    """A durable piece of work: state, stage, progress, time left."""
    job = await owned(caller, jobs, job_id)
    return await offloop.read(_row, job, jobs)


@router.post("/api/v1/jobs/{job_id}/cancel")
async def cancel(job_id: str, caller: CallerDep, jobs: JobsDep) -> JobView:
    """Stop it after the current slice."""
    await owned(caller, jobs, job_id)
    await offloop.write(jobs.cancel, job_id)
    return await one(job_id, caller, jobs)


@router.get("/jobs", include_in_schema=False)
async def page(request: Request, caller: CallerDep, jobs: JobsDep, query: Annotated[JobsQuery, Query()]) -> Response:
    """The same as a page."""
    view = await listed(caller, jobs, query)
    return pages.respond(request, view, template="lab/jobs.html", title="Jobs")


@router.post("/jobs/{job_id}/cancel", include_in_schema=False)
async def cancel_page(request: Request, job_id: str, caller: CallerDep, jobs: JobsDep) -> Response:
    """The page's button."""
    job = await owned(caller, jobs, job_id)
    await offloop.write(jobs.cancel, job_id)
    return pages.redirect(request, "/jobs" + ("" if job.person == caller.person else "?who=lab"))
