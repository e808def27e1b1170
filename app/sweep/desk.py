"""What the sweep routes share: this application's sweeps, and work on the device for them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import Request

from analysis.store import RunFolder
from analysis.sweep import Result
from analysis.types import NullscopeError
from app.core import offloop
from app.core.caller import Caller, caller_of
from app.core.canonical import content_hash
from app.core.errors import ConflictError, ForbiddenError
from app.core.jobs import Jobs
from app.core.jobs_view import JobView
from app.core.owned_jobs import job_view, owned
from app.core.question import price_of
from app.core.run import API_PATIENCE, steps_of
from app.sweep import answer as answers
from app.sweep import estimate as estimating
from app.sweep import permalink, to_view
from app.sweep import view as views
from app.sweep.request import CalibrationQuery, FigureQuery, SweepQuery, SweepRequest
from app.sweep.store import BUNDLED, Sweeps
from app.sweep.texts import SAMPLE


class Desk:
    """The sweeps as one request sees them. Disk and database are read off the event loop."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.caller: Caller = caller_of(request)
        self.sweeps: Sweeps = request.app.state.sweeps
        self.jobs: Jobs = request.app.state.jobs

    async def every(self) -> list[views.SweepRef]:
        return await offloop.read(to_view.every, self.sweeps)

    async def name(self, sweep_id: str) -> str:
        return (await offloop.read(to_view.ref, self.sweeps, sweep_id)).name

    async def one(self, sweep_id: str, query: SweepQuery) -> views.SweepView:
        """A sweep, with what there is of its result."""

        def read() -> views.SweepView:
            to_view.ref(self.sweeps, sweep_id)  # NotFoundError before anything else
            try:
                result: Result | None = self.sweeps.result(sweep_id)
            except NullscopeError:
                result = None
            return to_view.sweep(self.sweeps, sweep_id, result, query)

        view = await offloop.read(read)
        if view.state != "finished" or view.manifest is None:
            return view
        name = content_hash(permalink.canonical(view.ref.model, view.manifest))
        return view.model_copy(update={"permalink": await self.caller.kept(name)})

    async def share(self, sweep_id: str) -> str:
        """The hash under which a finished sweep is stored, for one that is not yet: it ships with a model, is older."""
        state = (await offloop.read(to_view.ref, self.sweeps, sweep_id)).job.state
        if state != "finished":
            raise ConflictError(f"The sweep is {state}.", code="job_active", hint="Share it once it has finished.")
        new = await offloop.write(permalink.keep_sweep, self.sweeps, self.caller.database, sweep_id, self.caller.person)
        return new.hash

    async def result(self, sweep_id: str) -> tuple[str, Result, RunFolder]:
        """(model, result, folder) of a sweep that has one."""

        def read() -> tuple[str, Result, RunFolder]:
            return to_view.ref(self.sweeps, sweep_id).model, self.sweeps.result(sweep_id), self.sweeps.folder(sweep_id)

        return await offloop.read(read)

    async def start(self, body: SweepRequest) -> str:
        """Queue a sweep, once it is known that something is left of its text after filtering."""
        key = body.model or self.caller.host.default_key
        config = body.config()
        source, texts = await offloop.read(self._source, key, body.corpus)
        await self.caller.run(key, estimating.check, config, texts)
        return await offloop.write(self.sweeps.submit, key, self.caller.person, config, body.corpus, source, body.name)

    async def resume(self, sweep_id: str) -> None:
        """Queue one's own sweep again."""
        await self.owned(sweep_id)
        with self.caller.admit(price_of(estimating.check)):
            await offloop.write(self.jobs.resume, sweep_id)

    async def estimate(self, body: SweepRequest) -> views.EstimateView:
        key = body.model or self.caller.host.default_key
        _, texts = await offloop.read(self._source, key, body.corpus)
        length = await offloop.read(lambda: sum(map(len, texts())))
        return await self.caller.run(key, estimating.estimate, body.config(), texts, length)

    def _source(self, key: str, corpus_id: str) -> tuple[str, Callable[[], Iterator[str]]]:
        """(what a text is called, what reads its documents)."""
        name = f"sample text of {key}" if corpus_id == SAMPLE else self.sweeps.uploads.get(corpus_id).name
        return name, self.sweeps.texts(key, corpus_id)

    async def receive(self, name: str, content: bytes) -> views.CorpusView:
        found = await offloop.write(self.sweeps.uploads.receive, name, content, self.caller.person)
        return to_view.text(found)

    async def texts(self) -> views.CorporaView:
        """One's own uploads; everybody's for an administrator."""
        everybody = self.caller.identity.is_admin
        days = self.sweeps.settings.upload_days
        return await offloop.read(
            partial(to_view.texts, self.sweeps.uploads, self.caller.person, everybody=everybody, days=days)
        )

    async def delete_text(self, text_id: str) -> None:
        """ForbiddenError for somebody else's upload, unless this is an administrator."""
        found = await offloop.read(self.sweeps.uploads.get, text_id)
        if found.person != self.caller.person and not self.caller.identity.is_admin:
            raise ForbiddenError(
                "This is somebody else's text.", code="not_yours", hint="They or an administrator can."
            )
        await offloop.write(self.sweeps.uploads.delete, text_id, self.jobs)

    async def figures(self, sweep_id: str, names: list[str], query: FigureQuery) -> list[views.FigureView]:
        key, result, folder = await self.result(sweep_id)
        atlas = await self.request.app.state.atlases.get(key, patience=API_PATIENCE)
        return await self.caller.run(key, answers.figures, atlas, result, sweep_id, folder, names, query)

    async def neuron(self, sweep_id: str, name: str) -> views.SweepNeuronView:
        key, result, folder = await self.result(sweep_id)
        view: views.SweepNeuronView = await self.caller.run(key, answers.neuron, sweep_id, result, folder, name)
        return view.model_copy(update={"sweep_name": await self.name(sweep_id)})

    async def calibration(self, sweep_id: str, query: CalibrationQuery) -> views.CalibrationView:
        key, result, folder = await self.result(sweep_id)
        atlas = await self.request.app.state.atlases.get(key, patience=API_PATIENCE)
        asked = f"{sweep_id} {query.model_dump_json(exclude={'format', 'model'})}"
        more = (atlas, result, sweep_id, folder)
        found = await steps_of(self.caller, key, answers.calibrate, query, *more, asked=asked)
        return cast(views.CalibrationView, found.model_copy(update={"sweep_name": await self.name(sweep_id)}))

    async def compare(self, a: str, b: str, column: str, offset: int, limit: int) -> views.CompareView:
        def read() -> views.CompareView:
            sides = self._side(a), self._side(b)
            return to_view.compare(*sides, column, offset, limit, choices=to_view.every(self.sweeps))

        return await offloop.read(read)

    def _side(self, sweep_id: str) -> to_view.Compared:
        weights = self.sweeps.folder(sweep_id).manifest()["weights_sha256"]
        return to_view.Compared(to_view.ref(self.sweeps, sweep_id), self.sweeps.result(sweep_id), weights)

    async def owned(self, sweep_id: str) -> None:
        """ForbiddenError unless this person started it, or is an administrator. What ships with a model is nobody's."""
        if not sweep_id.startswith(BUNDLED):
            await owned(self.caller, self.jobs, sweep_id)

    async def job(self, job_id: str) -> JobView:
        def read() -> JobView:
            found = self.jobs.get(job_id)
            return job_view(found, self.jobs, result=f"/api/v1/sweeps/{job_id}" if found.kind == "sweep" else None)

        return await offloop.read(read)


def desk_of(request: Request) -> Desk:
    return Desk(request)


DeskDep = Annotated[Desk, Depends(desk_of)]
