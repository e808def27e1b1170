"""The JSON API of the induction lab. Pages: app.routes.induction_page."""

import asyncio
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request

from analysis.types import NotReadyError
from app.answers import induction as answers
from app.answers.atlas import Footing
from app.answers.induction_jobs import HeadJobs
from app.deps import CallerDep
from app.errors import UnavailableError
from app.requests import induction as requests
from app.routes.footing import API_PATIENCE, Ground, GroundDep
from app.routes.in_steps import in_steps
from app.routes.jobs import JobsDep, owned
from app.views import induction as views


def head_jobs_of(request: Request) -> HeadJobs:
    found: HeadJobs = request.app.state.head_jobs
    return found


async def footing(ground: Ground, key: str, patience: float = API_PATIENCE) -> Footing | None:
    """The atlas for the labels; None while it is being computed."""
    ground.caller.host.entry(key)
    try:
        return await ground.footing(key, patience=patience)
    except (NotReadyError, UnavailableError):
        return None


HeadJobsDep = Annotated[HeadJobs, Depends(head_jobs_of)]

router = APIRouter(prefix="/api/v1/models/{key}", tags=["induction"])


@router.post("/induction")
async def induction(
    key: str, body: requests.InductionRequest, caller: CallerDep, ground: GroundDep
) -> views.InductionView:
    """Repeated text: curves by position, every last-layer neuron by its weighted difference, clipped ablation."""
    return cast(views.InductionView, await in_steps(caller, key, answers.induction, body, await footing(ground, key)))


@router.post("/heads")
async def heads(key: str, body: requests.HeadsRequest, caller: CallerDep) -> views.HeadsView:
    """Induction scores of every attention head, and one head's pattern."""
    return cast(views.HeadsView, await in_steps(caller, key, answers.head_scores, body))


@router.post("/induction/attribution")
async def attribution(key: str, body: requests.AttributionRequest, caller: CallerDep) -> views.AttributionView:
    """A last-layer neuron's pre-activation, split exactly over heads, MLPs and the embedding (norm scale frozen)."""
    return cast(views.AttributionView, await in_steps(caller, key, answers.attribution, body))


@router.post("/induction/ablation")
async def ablation(key: str, body: requests.HeadAblationRequest, caller: CallerDep) -> views.HeadAblationView:
    """BOS, mean or zero ablation of heads, each query of the repeat by itself, against random heads."""
    return cast(views.HeadAblationView, await in_steps(caller, key, answers.head_ablation, body))


@router.post("/induction/ablation/jobs", status_code=202)
async def ablation_job(
    key: str, body: requests.HeadAblationRequest, caller: CallerDep, jobs: HeadJobsDep
) -> views.AblationJobView:
    """The same as a job, for models and rows that take longer than a request may."""
    return await asyncio.to_thread(jobs.submit, key, body, person=caller.person)


@router.get("/induction/ablation/jobs/{job_id}")
async def ablation_result(key: str, job_id: str, jobs: HeadJobsDep) -> views.AblationJobView:
    """How far the job is, and its result once it has finished."""
    return await asyncio.to_thread(jobs.view, job_id)


@router.post("/induction/ablation/jobs/{job_id}/cancel")
async def ablation_cancel(
    key: str, job_id: str, caller: CallerDep, jobs: HeadJobsDep, every: JobsDep
) -> views.AblationJobView:
    """Stop it after the current batch."""
    await owned(caller, every, job_id)
    return await asyncio.to_thread(jobs.cancel, job_id)


@router.post("/induction/natural")
async def natural(key: str, body: requests.NaturalRequest, caller: CallerDep) -> views.NaturalView:
    """6-grams that occur twice in the sample text, or in your own: both occurrences laid over each other."""
    return cast(views.NaturalView, await in_steps(caller, key, answers.natural_repeats, body))
