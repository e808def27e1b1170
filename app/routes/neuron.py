"""The page of one neuron: its weights at once, its behaviour on texts as fragments that follow."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, Query, Request, Response

from analysis.types import NotReadyError
from app import pages
from app.answers import atlas as answers
from app.answers import neuron as work
from app.figures import neuron as figures
from app.requests.atlas import NeuronQuery, NeuronState
from app.requests.core import NeuronName, PromptRequest
from app.routes.atlas import wait
from app.routes.footing import PAGE_PATIENCE, Ground, GroundDep
from app.routes.in_steps import in_steps
from app.routes.notes import NotesQuery, notes
from app.views.neuron import Live, NeuronPage, Sample
from app.views.notes import NoteView

router = APIRouter(include_in_schema=False)


@router.get("/m/{model}/n/{neuron}")
async def page(
    request: Request, model: str, neuron: NeuronName, state: Annotated[NeuronState, Query()], ground: GroundDep
) -> Response:
    """`live` and `sample` are computed for their fragment, and for JSON; the page itself does not wait for them."""
    return await respond(request, model, neuron, state, ground)


@router.post("/m/{model}/n/{neuron}")
async def on_text(
    request: Request, model: str, neuron: NeuronName, state: Annotated[NeuronState, Form()], ground: GroundDep
) -> Response:
    """The same on a text of one's own, which stands in no address."""
    return await respond(request, model, neuron, state, ground)


@router.post("/atlas/{neuron}")
async def short_on_text(
    request: Request, neuron: NeuronName, state: Annotated[NeuronState, Form()], ground: GroundDep
) -> Response:
    return await respond(request, ground.key(state.model), neuron, state, ground)


async def respond(request: Request, model: str, neuron: str, state: NeuronState, ground: Ground) -> Response:
    block = pages.fragment_of(request)
    everything = pages.format_of(request) == "json"
    try:
        weights = await ground.ask(model, answers.neuron, neuron, NeuronQuery(k=state.k), patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, ground, model)
    wanted = everything or block == "live" or bool(state.text)
    live = await on_prompt(ground, model, neuron, state.text) if wanted else None
    sample = await over_sample(ground, model, neuron) if everything or block == "sample" else None
    written = [] if block else await notes_on(ground, model, neuron)
    view = NeuronPage(
        model=model,
        models=ground.models,
        state=state.model_dump(),
        neuron=weights,
        live=live,
        sample=sample,
        notes=written,
    )
    return pages.respond(
        request, view, template="neuron.html", title=f"Neuron {neuron}", model=model, figures=charts(view, live)
    )


@router.get("/atlas/{neuron}")
async def short(
    request: Request, neuron: NeuronName, state: Annotated[NeuronState, Query()], ground: GroundDep
) -> Response:
    """The same page under a shorter address; `model` is in the query."""
    return await respond(request, ground.key(state.model), neuron, state, ground)


def charts(view: NeuronPage, live: Live | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "null_space": lambda: figures.null_space(view.neuron),
        "effect": lambda: figures.effect_histogram(view.neuron),
        "by_frequency": lambda: figures.effect_by_frequency(view.neuron),
    }
    if live is not None:
        found["clamp"] = lambda: figures.clamp(live)
    return found


async def notes_on(ground: Ground, model: str, neuron: str) -> list[NoteView]:
    """What people wrote about it, newest first."""
    return (await notes(ground.caller, NotesQuery(target=f"neuron:{model}/{neuron}"))).rows


async def on_prompt(ground: Ground, model: str, neuron: str, text: str) -> Live:
    """On the reader's text, else on the sample's first row."""
    prompt = PromptRequest(text=text) if text else await ground.caller.run(model, work.sample_prompt)
    return cast(Live, await in_steps(ground.caller, model, work.live, prompt, neuron))


async def over_sample(ground: Ground, model: str, neuron: str) -> Sample:
    """Row by row, so that nobody waits behind the whole sample."""
    rows = await ground.caller.run(model, work.sample_rows)
    found = [await ground.caller.run(model, work.sample_row, neuron, ids, place) for place, ids in enumerate(rows)]
    sample: Sample = await ground.caller.run(model, work.sample_view, found)
    return sample
