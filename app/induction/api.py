"""The JSON API of the induction lab. Pages: app.induction.routes."""

from typing import Annotated

from fastapi import Depends, Request

from app.core import offloop
from app.core.answering import router as routes
from app.core.caller import CallerDep
from app.core.owned_jobs import JobsDep, owned
from app.induction import request as requests
from app.induction import view as views
from app.induction.jobs import HeadJobs
from app.induction.questions import HEAD_ABLATION


def head_jobs_of(request: Request) -> HeadJobs:
    found: HeadJobs = request.app.state.head_jobs
    return found


HeadJobsDep = Annotated[HeadJobs, Depends(head_jobs_of)]

router = routes(prefix="/api/v1/models/{key}", tags=["induction"])


@router.post("/induction/ablation/jobs", status_code=202)
async def ablation_job(
    key: str, body: requests.HeadAblationRequest, caller: CallerDep, jobs: HeadJobsDep
) -> views.AblationJobView:
    """The same as a job, for models and rows that take longer than a request may."""
    caller.admit(HEAD_ABLATION, body)
    return await offloop.write(jobs.submit, key, body, person=caller.person)


@router.get("/induction/ablation/jobs/{job_id}")
async def ablation_result(key: str, job_id: str, jobs: HeadJobsDep) -> views.AblationJobView:
    """How far the job is, and its result once it has finished."""
    return await offloop.read(jobs.view, job_id)


@router.post("/induction/ablation/jobs/{job_id}/cancel")
async def ablation_cancel(
    key: str, job_id: str, caller: CallerDep, jobs: HeadJobsDep, every: JobsDep
) -> views.AblationJobView:
    """Stop it after the current batch."""
    await owned(caller, every, job_id)
    return await offloop.write(jobs.cancel, job_id)
