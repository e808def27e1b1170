"""Heads taken out as a durable job: many forward passes, with progress, cancelled between two batches.

data_dir/induction/<job>.json    the finished view
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from analysis.files import write_bytes
from analysis.induction.steps import Progress
from app.core.errors import ConflictError
from app.core.jobs import Jobs
from app.core.jobs.progress import Step
from app.core.residency.host import LONG_WORK, ModelHost
from app.core.settings import Settings
from app.core.store import Job
from app.induction.answer import head_ablation
from app.induction.request import HeadAblationRequest
from app.induction.view import AblationJobView, HeadAblationView

KIND = "head_ablation"


class HeadJobs:
    """Born with the application; the jobs' thread calls the runner."""

    def __init__(self, settings: Settings, host: ModelHost, jobs: Jobs) -> None:
        self._folder = settings.data_dir / "induction"
        self._host, self._jobs = host, jobs
        jobs.register(KIND, self._runner)

    def submit(
        self, model: str, request: HeadAblationRequest, *, person: str, state: dict[str, Any] | None = None
    ) -> AblationJobView:
        """Queue it. ``state``: the page that asked, so that its result can stand there again."""
        self._host.entry(model)
        config = {"request": request.model_dump(mode="json"), "state": state or {}}
        return self.view(self._jobs.submit(KIND, model=model, person=person, config=config))

    def view(self, job_id: str) -> AblationJobView:
        """How far it is, and the result once it is there."""
        job = self._job(job_id)
        live = self._jobs.progress(job_id)
        done, total = (live.step.done, live.step.total) if live else (job.done, job.total)
        return AblationJobView(
            id=job.id,
            model=job.model,
            state=job.state,
            stage=live.step.stage if live else job.stage or None,
            progress=done / total if total else None,
            eta=live.eta if live else None,
            queue=self._jobs.ahead(job) if job.state == "queued" else None,
            message=job.message,
            result=self._result(job_id) if job.state == "finished" else None,
        )

    def page_state(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._job(job_id).config["state"]
        return found

    def cancel(self, job_id: str) -> AblationJobView:
        self._jobs.cancel(self._job(job_id).id)
        return self.view(job_id)

    def _job(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job.kind != KIND:
            raise ConflictError(f"The job {job.id} takes no heads out; it is a {job.kind}.", code="wrong_job")
        return job

    def _result(self, job_id: str) -> HeadAblationView:
        return HeadAblationView.model_validate(json.loads((self._folder / f"{job_id}.json").read_text("utf-8")))

    def _runner(self, job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        request = HeadAblationRequest.model_validate(config["request"])
        for _ in self._host.awaiting(model):
            yield Step("waiting for the model", idle=True)
        steps = self._host.slices(model, lambda resident: head_ablation(resident, request), who=LONG_WORK, kind=KIND)
        for item in steps:
            if isinstance(item, Progress):
                yield Step(item.stage, item.done, item.total)
            else:
                self._keep(job_id, item)

    def _keep(self, job_id: str, view: BaseModel) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._folder / f"{job_id}.json", view.model_dump_json().encode())
