"""A job for whoever may see and end it: its person, or an administrator."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request

from app.core import offloop
from app.core.caller import Caller
from app.core.errors import ForbiddenError
from app.core.evidence import submitted_name
from app.core.jobs import Jobs
from app.core.jobs_view import JobView
from app.core.store import Job


def job_view(found: Job, jobs: Jobs, *, result: str | None = None, places: Mapping[str, int] | None = None) -> JobView:
    """A job with its live numbers, where it runs in this process. places: `Jobs.places`, for one of many jobs."""
    ahead = None
    if found.state == "queued":
        ahead = jobs.ahead(found) if places is None else places.get(found.id)
    live = jobs.progress(found.id) if found.state in ("running", "cancelling") else None
    stage, done, total = (
        (live.step.stage, live.step.done, live.step.total) if live else (found.stage, found.done, found.total)
    )
    return JobView(
        id=found.id,
        kind=found.kind,
        model=found.model,
        state=found.state,
        stage=stage,
        done=done,
        total=total,
        fraction=1.0 if found.state == "finished" else done / total if total else None,
        tokens_per_second=live.tokens_per_second if live else None,
        eta=live.eta if live else None,
        ahead=ahead,
        message=found.message,
        result=result,
        created=found.created,
        person=found.person,
        name=submitted_name(found.config) if found.kind == "sweep" else None,
    )


def jobs_of(request: Request) -> Jobs:
    found: Jobs = request.app.state.jobs
    return found


JobsDep = Annotated[Jobs, Depends(jobs_of)]


async def owned(caller: Caller, jobs: Jobs, job_id: str) -> Job:
    """A job that the caller may see and end; ForbiddenError for somebody else's."""
    job = await offloop.read(jobs.get, job_id)
    if job.person != caller.person and not caller.identity.is_admin:
        raise ForbiddenError("This is somebody else's job.", code="not_yours", hint="They or an administrator can.")
    return job
