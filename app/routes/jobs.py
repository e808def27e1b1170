"""Long work and the device's queue: mine, or everybody's for an administrator. The API and its page."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from app import pages
from app.db import Job
from app.deps import Caller, CallerDep
from app.errors import ForbiddenError
from app.jobs import Jobs
from app.present import sweep as shown
from app.present.jobs import queue as shown_queue
from app.views.jobs import JobsView, QueueView
from app.views.sweep import JobView

router = APIRouter(tags=["jobs"])


class JobsQuery(BaseModel):
    """Whose jobs."""

    who: Literal["mine", "lab"] = "mine"


def jobs_of(request: Request) -> Jobs:
    found: Jobs = request.app.state.jobs
    return found


JobsDep = Annotated[Jobs, Depends(jobs_of)]


async def owned(caller: Caller, jobs: Jobs, job_id: str) -> Job:
    """A job that the caller may see and end; ForbiddenError for somebody else's."""
    job = await asyncio.to_thread(jobs.get, job_id)
    if job.person != caller.person and not caller.identity.is_admin:
        raise ForbiddenError("This is somebody else's job.", code="not_yours", hint="They or an administrator can.")
    return job


def _row(job: Job, jobs: Jobs) -> JobView:
    return shown.job(job, jobs, result=f"/api/v1/sweeps/{job.id}" if job.kind == "sweep" else None)


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
    rows = await asyncio.to_thread(lambda: [_row(job, jobs) for job in jobs.every(person=person)])
    return JobsView(person=caller.person, is_admin=admin, who=query.who, rows=rows, queue=await queue(caller))


@router.get("/api/v1/jobs/{job_id}")
async def one(job_id: str, caller: CallerDep, jobs: JobsDep) -> JobView:
    """A durable piece of work: state, stage, progress, time left."""
    job = await owned(caller, jobs, job_id)
    return await asyncio.to_thread(_row, job, jobs)


@router.post("/api/v1/jobs/{job_id}/cancel")
async def cancel(job_id: str, caller: CallerDep, jobs: JobsDep) -> JobView:
    """Stop it after the current slice."""
    await owned(caller, jobs, job_id)
    await asyncio.to_thread(jobs.cancel, job_id)
    return await one(job_id, caller, jobs)


@router.get("/jobs", include_in_schema=False)
async def page(request: Request, caller: CallerDep, jobs: JobsDep, query: Annotated[JobsQuery, Query()]) -> Response:
    """The same as a page."""
    view = await listed(caller, jobs, query)
    return pages.respond(request, view, template="jobs.html", title="Jobs")


@router.post("/jobs/{job_id}/cancel", include_in_schema=False)
async def cancel_page(request: Request, job_id: str, caller: CallerDep, jobs: JobsDep) -> Response:
    """The page's button."""
    job = await owned(caller, jobs, job_id)
    await asyncio.to_thread(jobs.cancel, job_id)
    return pages.redirect(request, "/jobs" + ("" if job.person == caller.person else "?who=lab"))
