"""A question's answer as a durable job: for what takes longer than a request may, or for nobody waiting.

data_dir/answers/<job>.json    the finished view

Every question that says `job=True` can be one; the API's routes, the client's methods and the runner follow from that.
"""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel

from analysis.files import write_bytes
from analysis.progress import Progress
from analysis.types import NotFoundError
from app.core.errors import ConflictError
from app.core.expiry import DAY
from app.core.jobs import FINAL, Jobs
from app.core.jobs.progress import Step
from app.core.jobs_view import AnswerJob
from app.core.question import Question
from app.core.residency.host import LONG_WORK, ModelHost
from app.core.settings import Settings
from app.core.store import Job

FORMER = "induction"
"""The folder of finished views, when heads taken out were the only question that could be a job."""


class AnswerJobs:
    """Born with the application; the jobs' thread calls the runners."""

    def __init__(self, settings: Settings, host: ModelHost, jobs: Jobs, questions: Iterable[Question]) -> None:
        self._folder = settings.data_dir / "answers"
        self._former = settings.data_dir / FORMER
        self._days = settings.result_days
        self._host, self._jobs = host, jobs
        self._questions = {question.name: question for question in questions if question.job}
        for question in self._questions.values():
            jobs.register(question.name, partial(self._steps, question))

    def submit(
        self, question: Question, model: str, request: BaseModel, *, person: str, state: dict[str, Any] | None = None
    ) -> AnswerJob[Any]:
        """Queue it. ``state``: the page that asked, so that its result can stand there again."""
        self._host.entry(model)
        config = {"request": request.model_dump(mode="json"), "state": state or {}}
        return self.view(question, self._jobs.submit(question.name, model=model, person=person, config=config))

    def view(self, question: Question, job_id: str) -> AnswerJob[Any]:
        """How far it is, and the result once it is there. ConflictError for a job that answers something else."""
        job = self._job(question, job_id)
        live = self._jobs.progress(job_id)
        done, total = (live.step.done, live.step.total) if live else (job.done, job.total)
        view: type[AnswerJob[Any]] = AnswerJob[question.view]  # type: ignore[name-defined]
        return view(
            id=job.id,
            model=job.model,
            state=job.state,
            stage=live.step.stage if live else job.stage or None,
            progress=done / total if total else None,
            eta=live.eta if live else None,
            queue=self._jobs.ahead(job) if job.state == "queued" else None,
            message=job.message,
            result=self._result(question, job_id) if job.state == "finished" else None,
        )

    def asked(self, question: Question, job_id: str) -> BaseModel:
        """What the job answers."""
        return question.request.model_validate(self._job(question, job_id).config["request"])

    def page_state(self, question: Question, job_id: str) -> dict[str, Any]:
        """Of the page that asked; empty where another door did."""
        found: dict[str, Any] = self._job(question, job_id).config["state"]
        return found

    def cancel(self, question: Question, job_id: str) -> AnswerJob[Any]:
        """Stop it after the step that it is at."""
        self._jobs.cancel(self._job(question, job_id).id)
        return self.view(question, job_id)

    def expire(self, now: float) -> None:
        """Remove the results of jobs that ended too many days ago. now: seconds since 1970."""
        if (days := self._days) is None:
            return
        for name in self._questions:
            for job in self._jobs.every(name):
                if job.state in FINAL and job.updated < now - days * DAY:
                    self._file(job.id).unlink(missing_ok=True)
                    self._jobs.delete(job.id)

    def _job(self, question: Question, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job.kind != question.name:
            raise ConflictError(f"The job {job.id} is no {question.name}; it is a {job.kind}.", code="wrong_job")
        return job

    def _file(self, job_id: str) -> Path:
        former = self._former / f"{job_id}.json"
        return former if former.is_file() else self._folder / f"{job_id}.json"

    def _result(self, question: Question, job_id: str) -> BaseModel:
        try:
            text = self._file(job_id).read_text("utf-8")
        except FileNotFoundError:
            raise NotFoundError(
                "The result of this job is no longer on the disk.", code="no_result", hint="Start it again."
            ) from None
        return question.view.model_validate(json.loads(text))

    def _steps(self, question: Question, job_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        request = question.request.model_validate(config["request"])
        for _ in self._host.awaiting(model):
            yield Step("waiting for the model", idle=True)
        answer = question.answer if question.steps else question.lines
        assert answer is not None
        make = partial(answer, request=request)
        last: BaseModel | None = None
        step = Step("computing")
        for item in self._host.slices(model, lambda resident: make(resident), who=LONG_WORK, kind=question.name):
            if isinstance(item, Progress):
                step = Step(item.stage, item.done, item.total)
            elif isinstance(item, BaseModel):
                last = item  # how far it is stands as it was told: a view of what there is by now is no step back
            yield step
        if last is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._folder / f"{job_id}.json", last.model_dump_json().encode())


def answer_jobs_of(request: Request) -> AnswerJobs:
    found: AnswerJobs = request.app.state.answer_jobs
    return found


AnswerJobsDep = Annotated[AnswerJobs, Depends(answer_jobs_of)]
