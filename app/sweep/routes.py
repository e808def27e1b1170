"""The sweep pages: the list with its form, one sweep, its figures, a neuron in it, calibration, comparison."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, get_args

from fastapi import Form, Query, Request, Response
from starlette.datastructures import UploadFile
from starlette.responses import RedirectResponse

from analysis.types import InputError
from app.core import offloop, pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.errors import ConflictError
from app.sweep import charts as figures
from app.sweep import to_view
from app.sweep import view as views
from app.sweep.desk import DeskDep
from app.sweep.request import (
    CalibrationQuery,
    CompareQuery,
    FigureName,
    FigureQuery,
    GalleryQuery,
    SweepForm,
    SweepPageQuery,
)

router = routes(include_in_schema=False)

GROUPS = {
    "entropy": ("1", "2a", "2b", "2c", "2d", "2e", "2f", "7"),
    "frequency": ("3a", "3b", "3c", "8"),
    "tokens": ("4a", "4b", "4c"),
    "spectrum": ("6",),
}


@router.get("/sweeps")
async def sweeps(request: Request, form: Annotated[SweepForm, Query()], desk: DeskDep) -> Response:
    """Every sweep, and the form that starts one; `corpus` names an uploaded text."""
    return pages.respond(
        request, await _listing(desk, form), template="sweep/sweeps.html", title="Sweeps", model=form.model
    )


async def _listing(desk: DeskDep, form: SweepForm, estimate: views.EstimateView | None = None) -> views.SweepsView:
    host = desk.caller.host
    chosen = None if form.corpus == "sample" else await offloop.read(desk.sweeps.uploads.get, form.corpus)
    return views.SweepsView(
        sweeps=await desk.every(),
        models=list(host.entries),
        corpus=None if chosen is None else to_view.text(chosen),
        corpora=await desk.texts(),
        form=form.model_dump() | {"model": form.model or host.default_key},
        estimate=estimate,
    )


@router.post("/sweeps/text")
async def receive(request: Request, desk: DeskDep) -> Response:
    """An uploaded text; then the form again, with the text chosen."""
    fields = await request.form()
    file = fields.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise InputError("No file was chosen.", code="no_file", hint="Choose a .jsonl or .txt file.")
    found = await desk.receive(Path(file.filename).name, await file.read())
    return pages.redirect(request, f"/sweeps?corpus={found.id}#start")


@router.post("/sweeps/texts/{text_id}/delete")
async def delete_text(request: Request, text_id: str, desk: DeskDep) -> Response:
    """Remove an upload."""
    await desk.delete_text(text_id)
    return _to(request, "/sweeps#texts")


@router.post("/sweeps/estimate")
@asks
async def estimate(request: Request, form: Annotated[SweepForm, Form()], desk: DeskDep) -> Response:
    """The form with what the sweep would cost."""
    view = await _listing(desk, form, await desk.estimate(form.request()))
    return pages.respond(request, view, template="sweep/sweeps.html", title="Sweeps", model=form.model)


@router.post("/sweeps")
async def start(request: Request, form: Annotated[SweepForm, Form()], desk: DeskDep) -> Response:
    """Start it and go to its page."""
    return pages.redirect(request, f"/sweeps/{await desk.start(form.request())}")


def _to(request: Request, path: str) -> Response:
    return RedirectResponse(request.scope.get("root_path", "").rstrip("/") + path, 303)


@router.get("/sweeps/compare")
async def compare(request: Request, query: Annotated[CompareQuery, Query()], desk: DeskDep) -> Response:
    """Two sweeps by one column."""
    view = await desk.compare(query.a, query.b, query.column, query.offset, query.limit)
    return pages.respond(
        request,
        view,
        template="sweep/sweep_compare.html",
        title="Compare sweeps",
        model=view.a.model,
        figures={"comparison": lambda: figures.comparison(view, _root(request))},
    )


@router.get("/sweeps/{sweep_id}")
async def sweep(request: Request, sweep_id: str, query: Annotated[SweepPageQuery, Query()], desk: DeskDep) -> Response:
    """One sweep: progress, the overview figure, the table. While it runs it draws what there is."""
    view = await desk.one(sweep_id, query.whole() if pages.gives_a_file(request) else query)
    drawn: dict[str, Any] = {}
    if view.n_rows and pages.fragment_of(request) not in ("neurons", "progress"):
        with suppress(ConflictError):  # made with other weights: the table alone
            overview = (await desk.figures(sweep_id, ["1"], FigureQuery()))[0]
            drawn["overview"] = lambda: figures.drawn(overview, _root(request))
    return pages.respond(request, view, template="sweep/sweep.html", title="Sweep", model=view.ref.model, figures=drawn)


@router.post("/sweeps/{sweep_id}/cancel")
async def cancel(request: Request, sweep_id: str, desk: DeskDep) -> Response:
    """Stop it after the current slice."""
    await desk.owned(sweep_id)
    await offloop.write(desk.jobs.cancel, sweep_id)
    return _to(request, f"/sweeps/{sweep_id}")


@router.post("/sweeps/{sweep_id}/resume")
async def resume(request: Request, sweep_id: str, desk: DeskDep) -> Response:
    """Go on with it."""
    await desk.resume(sweep_id)
    return _to(request, f"/sweeps/{sweep_id}")


@router.post("/sweeps/{sweep_id}/share")
async def share(request: Request, sweep_id: str, desk: DeskDep) -> Response:
    """Store a finished sweep that is not stored yet, and go to its permalink."""
    return pages.redirect(request, f"/r/{await desk.share(sweep_id)}")


@router.post("/sweeps/{sweep_id}/delete")
async def delete(request: Request, sweep_id: str, desk: DeskDep) -> Response:
    """Remove it with its files."""
    await desk.owned(sweep_id)
    await offloop.write(desk.sweeps.delete, sweep_id)
    return _to(request, "/sweeps")


@router.get("/sweeps/{sweep_id}/figures")
async def gallery(request: Request, sweep_id: str, query: Annotated[GalleryQuery, Query()], desk: DeskDep) -> Response:
    """The paper's figures of one group."""
    return await _figures(request, desk, sweep_id, list(GROUPS[query.group]), query, query.group)


@router.get("/sweeps/{sweep_id}/figures/{name}")
async def figure(
    request: Request, sweep_id: str, name: FigureName, query: Annotated[FigureQuery, Query()], desk: DeskDep
) -> Response:
    """One figure; its CSV holds the points."""
    if pages.format_of(request) == "html":
        return await _figures(request, desk, sweep_id, [name], query, "")
    view = (await desk.figures(sweep_id, [name], query))[0]
    return pages.respond(request, view, template="sweep/sweep_figures.html", title=view.title, model=view.model)


async def _figures(
    request: Request, desk: DeskDep, sweep_id: str, names: list[str], query: FigureQuery, group: str
) -> Response:
    found = await desk.figures(sweep_id, names, query)
    view = views.GalleryView(
        sweep=sweep_id,
        sweep_name=await desk.name(sweep_id),
        model=found[0].model,
        group=group,
        groups=list(GROUPS),
        names=list(get_args(FigureName)),
        query=query.model_dump(exclude={"format", "model", "group"}),
        figures=found,
    )
    root = _root(request)
    charts = {f"figure-{each.name}": (lambda each=each: figures.drawn(each, root)) for each in found}
    return pages.respond(
        request, view, template="sweep/sweep_figures.html", title="Figures", model=view.model, figures=charts
    )


@router.get("/sweeps/{sweep_id}/neurons/{neuron}")
async def neuron(request: Request, sweep_id: str, neuron: str, desk: DeskDep) -> Response:
    """One neuron of a sweep."""
    view = await desk.neuron(sweep_id, neuron)
    drawn = {"histogram": lambda: figures.histogram(view)}
    return pages.respond(
        request, view, template="sweep/sweep_neuron.html", title=f"{neuron} in a sweep", model=view.model, figures=drawn
    )


@router.get("/sweeps/{sweep_id}/calibration")
async def calibration(
    request: Request, sweep_id: str, query: Annotated[CalibrationQuery, Query()], desk: DeskDep
) -> Response:
    """Calibration, clean and under ablation."""
    view = await desk.calibration(sweep_id, query)
    drawn = {
        "reliability": lambda: figures.reliability(view),
        "entropy": lambda: figures.cumulative(view, "entropy"),
        "loss": lambda: figures.cumulative(view, "loss"),
    }
    return pages.respond(
        request, view, template="sweep/sweep_calibration.html", title="Calibration", model=view.model, figures=drawn
    )


def _root(request: Request) -> str:
    found: str = request.scope.get("root_path", "").rstrip("/")
    return found
