"""The JSON API of sweeps. Pages: app.sweep.routes."""

from typing import Annotated

from fastapi import Query, Request

from app.core import offloop
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.bodies import sent_file
from app.core.jobs_view import JobView
from app.sweep import view as views
from app.sweep.desk import DeskDep
from app.sweep.request import CalibrationQuery, CompareQuery, FigureName, FigureQuery, SweepQuery, SweepRequest

router = routes(prefix="/api/v1", tags=["sweeps"])


@router.get("/sweeps")
async def sweeps(desk: DeskDep) -> views.SweepsView:
    """Every sweep of this server, newest first, and those that ship with models."""
    return views.SweepsView(sweeps=await desk.every(), models=list(desk.caller.host.entries))


@router.post("/sweeps", status_code=202)
async def start(body: SweepRequest, desk: DeskDep) -> views.SweepRef:
    """Start a sweep: it is queued, and goes on after a restart by itself."""
    sweep_id = await desk.start(body)
    return (await desk.one(sweep_id, SweepQuery())).ref


@router.post("/sweeps/estimate")
@asks
async def estimate(body: SweepRequest, desk: DeskDep) -> views.EstimateView:
    """What a sweep would take: rows, time, memory, disk. Nothing is started."""
    return await desk.estimate(body)


@router.get("/sweeps/compare")
async def compare(query: Annotated[CompareQuery, Query()], desk: DeskDep) -> views.CompareView:
    """Two sweeps by one column, the largest differences first."""
    return await desk.compare(query.a, query.b, query.column, query.offset, query.limit)


@router.get("/sweeps/{sweep_id}")
async def sweep(sweep_id: str, query: Annotated[SweepQuery, Query()], desk: DeskDep) -> views.SweepView:
    """One sweep: state, progress, provenance, and its neurons (those of the finished shards while it runs)."""
    return await desk.one(sweep_id, query)


@router.post("/sweeps/{sweep_id}/cancel")
async def cancel(sweep_id: str, desk: DeskDep) -> JobView:
    """Stop after the current slice; what is finished is kept."""
    await desk.owned(sweep_id)
    await offloop.write(desk.jobs.cancel, sweep_id)
    return await desk.job(sweep_id)


@router.post("/sweeps/{sweep_id}/resume")
async def resume(sweep_id: str, desk: DeskDep) -> JobView:
    """Go on with a sweep that was cancelled or has failed; 409 for any other."""
    await desk.resume(sweep_id)
    return await desk.job(sweep_id)


@router.delete("/sweeps/{sweep_id}", status_code=204)
async def delete(sweep_id: str, desk: DeskDep) -> None:
    """Remove a sweep that has ended, with its files; 409 while it runs."""
    await desk.owned(sweep_id)
    await offloop.write(desk.sweeps.delete, sweep_id)


@router.get("/sweeps/{sweep_id}/figures/{name}")
async def figure(
    sweep_id: str, name: FigureName, query: Annotated[FigureQuery, Query()], desk: DeskDep
) -> views.FigureView:
    """The points of one of the paper's figures."""
    return (await desk.figures(sweep_id, [name], query))[0]


@router.get("/sweeps/{sweep_id}/neurons/{neuron}")
async def neuron(sweep_id: str, neuron: str, desk: DeskDep) -> views.SweepNeuronView:
    """One neuron: every measure, its activations' histogram, its top examples with context."""
    return await desk.neuron(sweep_id, neuron)


@router.get("/sweeps/{sweep_id}/calibration")
async def calibration(
    sweep_id: str, query: Annotated[CalibrationQuery, Query()], desk: DeskDep
) -> views.CalibrationView:
    """Reliability, ECE, Brier score and loss: clean, with neurons ablated, with the same changes along
    random directions."""
    return await desk.calibration(sweep_id, query)


@router.get("/corpora")
async def corpora(desk: DeskDep) -> views.CorporaView:
    """Uploaded texts, newest first: mine, an administrator's everybody's; what they take and what I may have."""
    return await desk.texts()


@router.delete("/corpora/{text_id}", status_code=204)
async def delete_text(text_id: str, desk: DeskDep) -> None:
    """Remove an upload of one's own; 409 while a sweep that has not finished needs it."""
    await desk.delete_text(text_id)


@router.post(
    "/corpora", status_code=201, openapi_extra={"requestBody": {"content": {"text/plain": {}}, "required": True}}
)
async def receive(request: Request, desk: DeskDep, name: Annotated[str, Query(max_length=200)]) -> views.CorpusView:
    """Upload a text for sweeps as the request's body: .jsonl with a `text` key, or .txt, either gzipped, by its
    name."""
    return await desk.receive(name, await sent_file(request))
