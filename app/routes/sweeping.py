"""What the sweep routes share: this application's sweeps, and work on the device for them."""

import asyncio
from typing import Annotated, Any, cast

from fastapi import Depends
from starlette.requests import Request

from analysis.sweep import Result
from analysis.types import NullscopeError
from app.answers import kept
from app.answers import sweep as answers
from app.answers import sweep_estimate as estimating
from app.db.results import NewResult
from app.deps import Caller, caller_of
from app.jobs import Jobs
from app.jobs.sweeps import BUNDLED, SAMPLE, Corpus, Sweeps
from app.present import sweep as shown
from app.requests.sweep import CalibrationQuery, FigureQuery, SweepQuery, SweepRequest
from app.routes.footing import API_PATIENCE, Ground
from app.routes.in_steps import in_steps
from app.routes.jobs import owned
from app.views import sweep as views


class Desk:
    """The sweeps as one request sees them. Disk and database are read off the event loop."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.caller: Caller = caller_of(request)
        self.sweeps: Sweeps = request.app.state.sweeps
        self.jobs: Jobs = request.app.state.jobs

    async def every(self) -> list[views.SweepRef]:
        return await asyncio.to_thread(shown.every, self.sweeps)

    async def one(self, sweep_id: str, query: SweepQuery) -> views.SweepView:
        """A sweep, with what there is of its result."""

        def read() -> tuple[views.SweepView, NewResult | None]:
            shown.ref(self.sweeps, sweep_id)  # NotFoundError before anything else
            try:
                result: Result | None = self.sweeps.result(sweep_id)
            except NullscopeError:
                result = None
            view = shown.sweep(self.sweeps, sweep_id, result, query)
            if view.state != "finished" or view.manifest is None:
                return view, None
            return view, kept.of_sweep(shown.sweep(self.sweeps, sweep_id, result, SweepQuery()), view.manifest)

        view, finished = await asyncio.to_thread(read)
        return await self.caller.keep(finished, view) if finished else view

    async def result(self, sweep_id: str) -> tuple[str, Result]:
        """(model, result) of a sweep that has one."""

        def read() -> tuple[str, Result]:
            return shown.ref(self.sweeps, sweep_id).model, self.sweeps.result(sweep_id)

        return await asyncio.to_thread(read)

    async def start(self, body: SweepRequest) -> str:
        """Queue a sweep, once it is known that something is left of its text after filtering."""
        key = body.model or self.caller.host.default_key
        config, source = body.config(), await asyncio.to_thread(self._source, key, body.corpus)
        texts = self.sweeps.texts(key, body.corpus)
        await self.caller.run(key, _check, config, texts)
        return await asyncio.to_thread(self.sweeps.submit, key, self.caller.person, config, body.corpus, source)

    async def estimate(self, body: SweepRequest) -> views.EstimateView:
        key = body.model or self.caller.host.default_key
        length = await asyncio.to_thread(lambda: sum(map(len, self.sweeps.texts(key, body.corpus)())))
        return await self.caller.run(
            key, estimating.estimate, body.config(), self.sweeps.texts(key, body.corpus), length
        )

    def _source(self, key: str, corpus_id: str) -> str:
        if corpus_id == SAMPLE:
            return f"sample text of {key}"
        return self.sweeps.corpus_name(corpus_id)

    async def receive(self, name: str, content: bytes) -> views.CorpusView:
        found: Corpus = await asyncio.to_thread(self.sweeps.receive, name, [content])
        return views.CorpusView(
            id=found.id, name=found.name, n_documents=found.n_documents, n_characters=found.n_characters
        )

    async def figures(self, sweep_id: str, names: list[str], query: FigureQuery) -> list[views.FigureView]:
        key, result = await self.result(sweep_id)
        atlas = await Ground(self.request).atlases.get(key, patience=API_PATIENCE)
        return await self.caller.run(
            key, answers.figures, atlas, result, sweep_id, self.sweeps.folder(sweep_id), names, query
        )

    async def neuron(self, sweep_id: str, name: str) -> views.SweepNeuronView:
        key, result = await self.result(sweep_id)
        return await self.caller.run(key, answers.neuron, sweep_id, result, self.sweeps.folder(sweep_id), name)

    async def calibration(self, sweep_id: str, query: CalibrationQuery) -> views.CalibrationView:
        key, result = await self.result(sweep_id)
        atlas = await Ground(self.request).atlases.get(key, patience=API_PATIENCE)
        folder = self.sweeps.folder(sweep_id)

        def calibration(resident: Any, body: CalibrationQuery) -> Any:
            return answers.calibrate(resident, atlas, result, sweep_id, folder, body)

        return cast(views.CalibrationView, await in_steps(self.caller, key, calibration, query))

    async def compare(self, a: str, b: str, column: str, offset: int, limit: int) -> views.CompareView:
        def read() -> views.CompareView:
            sides = self._side(a), self._side(b)
            return shown.compare(*sides, column, offset, limit, choices=shown.every(self.sweeps))

        return await asyncio.to_thread(read)

    def _side(self, sweep_id: str) -> shown.Compared:
        weights = self.sweeps.folder(sweep_id).manifest()["weights_sha256"]
        return shown.Compared(shown.ref(self.sweeps, sweep_id), self.sweeps.result(sweep_id), weights)

    async def owned(self, sweep_id: str) -> None:
        """ForbiddenError unless this person started it, or is an administrator. What ships with a model is nobody's."""
        if not sweep_id.startswith(BUNDLED):
            await owned(self.caller, self.jobs, sweep_id)

    async def job(self, job_id: str) -> views.JobView:
        def read() -> views.JobView:
            found = self.jobs.get(job_id)
            return shown.job(found, self.jobs, result=f"/api/v1/sweeps/{job_id}" if found.kind == "sweep" else None)

        return await asyncio.to_thread(read)


def _check(resident: Any, config: Any, texts: Any) -> None:
    """Refuse what cannot become a sweep, before it is queued."""
    estimating.probe_rows(resident, config.settled(resident.model), texts())


def desk_of(request: Request) -> Desk:
    return Desk(request)


DeskDep = Annotated[Desk, Depends(desk_of)]
