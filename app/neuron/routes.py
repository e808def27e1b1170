"""The page of one neuron: its weights at once, its behaviour on texts as fragments that follow."""

from typing import Annotated, Any, cast

from fastapi import Form, Query, Request, Response

from analysis.types import NotReadyError
from app.core import at_hand, notes, pages
from app.core.access.roles import asks
from app.core.answering import router as routes
from app.core.atlas_caller import PAGE_PATIENCE, AtlasCaller, AtlasCallerDep
from app.core.atlas_waiting import wait
from app.core.followed import FollowedRuns
from app.core.interventions import requested
from app.core.parts import Part, part
from app.core.request import NeuronName, NothingAsked, PromptRequest
from app.core.sample import sample_prompt
from app.neuron import charts as figures
from app.neuron.questions import NEURON, NEURON_ON, NEURON_SAMPLE, SAMPLE_SO_FAR
from app.neuron.request import NeuronQuery, NeuronState
from app.neuron.view import Live, NeuronPage, Reading, Sample

router = routes(include_in_schema=False)

FIRST_WAIT = 0.4  # seconds in which a panel's first numbers mostly come
Sampled = tuple[Sample | None, Reading | None]


@router.get("/m/{model}/n/{neuron}")
async def page(
    request: Request, model: str, neuron: NeuronName, state: Annotated[NeuronState, Query()], asker: AtlasCallerDep
) -> Response:
    """`live` and `sample` are computed for their fragment, and for JSON; the page itself does not wait for them."""
    return await respond(request, model, neuron, state, asker)


@router.post("/m/{model}/n/{neuron}")
@asks
async def on_text(
    request: Request, model: str, neuron: NeuronName, state: Annotated[NeuronState, Form()], asker: AtlasCallerDep
) -> Response:
    """The same on a text of one's own, which stands in no address."""
    return await respond(request, model, neuron, state, asker)


@router.post("/atlas/{neuron}")
@asks
async def short_on_text(
    request: Request, neuron: NeuronName, state: Annotated[NeuronState, Form()], asker: AtlasCallerDep
) -> Response:
    return await respond(request, asker.key(state.model), neuron, state, asker)


async def respond(request: Request, model: str, neuron: str, state: NeuronState, asker: AtlasCaller) -> Response:
    block = pages.fragment_of(request)
    everything = pages.format_of(request) == "json"
    try:
        query = NeuronQuery(k=state.k, sweep=state.sweep)
        weights = await asker.ask(model, NEURON, query, neuron=neuron, patience=PAGE_PATIENCE)
    except NotReadyError:
        return wait(request, asker, model)
    if block == "live" and request.method == "GET":
        state = await at_hand.started(request, state)
    state = state.placed(model, state.text)
    wanted = everything or block == "live" or (block != "drives" and bool(state.text or state.at))
    live: Part[Live] = await part(request, on_prompt(asker, model, neuron, state.text)) if wanted else Part()
    if state.at and live.view is not None:
        state = state.model_copy(update={"at": place_in(live.view, state.at)})
    tokens = live.view.tokens if live.view else ()
    at_hand.take_up(request, model, state.text, pos="" if state.at == "all" else state.at, tokens=tokens)
    over = everything or block == "sample"
    sample: Part[Sampled] = await part(request, over_sample(asker, model, neuron)) if over else Part()
    followed: Part[Any] = await part(request, upstream(asker, model, neuron, state)) if state.at else Part()
    written = [] if block else (await notes.listed(asker.caller, f"neuron:{model}/{neuron}")).rows
    view = NeuronPage(
        model=model,
        models=asker.models,
        state=state.model_dump(),
        neuron=weights,
        live=live.view,
        sample=sample.view and sample.view[0],
        reading=sample.view and sample.view[1],
        circuit=followed.view and followed.view[0],
        python_circuit=followed.view[1] if followed.view else "",
        problem=live.problem or sample.problem or followed.problem,
        notes=written,
    )
    return pages.respond(
        request,
        view,
        template="neuron/neuron.html",
        title=f"Neuron {neuron}",
        model=model,
        figures=charts(request, view, live.view),
        status=max(live.status, sample.status, followed.status),
    )


@router.get("/atlas/{neuron}")
async def short(
    request: Request, neuron: NeuronName, state: Annotated[NeuronState, Query()], asker: AtlasCallerDep
) -> Response:
    """The same page under a shorter address; `model` is in the query."""
    return await respond(request, asker.key(state.model), neuron, state, asker)


def charts(request: Request, view: NeuronPage, live: Live | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "null_space": lambda: figures.null_space(view.neuron),
        "effect": lambda: figures.effect_histogram(view.neuron),
        "by_frequency": lambda: figures.effect_by_frequency(view.neuron),
    }
    if live is not None:
        found["clamp"] = lambda: figures.clamp(live)
        found["activations"] = lambda: figures.activations(live)
    if (sample := view.sample) is not None and sample.activations is not None:
        found["sample_activations"] = lambda: figures.sample_activations(sample)
    if view.circuit is not None:
        found["circuit"] = lambda: request.app.state.questions["circuit"].charts["circuit"](view.circuit)
    return found


async def on_prompt(asker: AtlasCaller, model: str, neuron: str, text: str) -> Live:
    """On the reader's text, else on the sample's first row."""
    prompt = PromptRequest(text=text) if text else await asker.caller.run(model, sample_prompt)
    return cast(Live, await asker.ask(model, NEURON_ON, prompt, neuron=neuron))


def place_in(live: Live, at: str) -> str:
    """Where what drives it is followed back: as asked, where this text has such a position, else where the neuron is
    most active. (The places are chosen from a list, and the text may have changed since.)"""
    known = at == "all" or at in {str(token.position) for token in live.tokens}
    return at if known or not live.most_active else str(live.most_active[0])


async def upstream(asker: AtlasCaller, model: str, neuron: str, state: NeuronState) -> tuple[Any, str]:
    """What drives it at a position of the text, or over all of it; and the call that computes it."""
    question = asker.request.app.state.questions["circuit"]
    where = {"average": True} if state.at == "all" else {"position": state.at}
    text = {"text": state.text}
    if not state.text:
        text = (await asker.caller.run(model, sample_prompt)).model_dump(include={"token_ids"})
    asked = requested(question.request, **text, **where, component=neuron, check=state.patch)
    code = pages.server(asker.request).call(model, question.path, asked, 'answer["edges"][:5]')
    return await asker.ask(model, question, asked), code


async def over_sample(asker: AtlasCaller, model: str, neuron: str) -> Sampled:
    """Row by row, so that nobody waits behind the whole sample. The panel shows what the rows so far say and comes back
    for more; it ends once nobody comes back. Programs get the whole."""
    if pages.REQUEST not in asker.request.headers:
        return cast(Sample, await asker.ask(model, NEURON_SAMPLE, NothingAsked(), neuron=neuron)), None
    runs: FollowedRuns = asker.request.app.state.followed
    run = await runs.start(asker.caller, SAMPLE_SO_FAR, model, NothingAsked(), neuron=neuron)
    run.polled = True
    await runs.wait(asker.caller, run, FIRST_WAIT)
    finished, stage = run.finished, run.stage  # before the view is taken, so that the last one asked for is the whole
    found = await runs.view(asker.caller, run)
    if finished:
        return found, None
    return found, Reading(done=stage.done, total=stage.total) if stage else Reading(done=0, total=0)
