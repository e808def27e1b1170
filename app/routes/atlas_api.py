"""The JSON API of the atlas: neurons, one neuron, the spectrum, the null space, token frequency, comparison."""

from typing import Annotated, cast

from fastapi import APIRouter, Query

from app.answers import atlas as answers
from app.answers import frequency as frequencies
from app.answers import neuron as work
from app.answers import nullspace as null
from app.requests import atlas as requests
from app.requests.core import NeuronName, PromptRequest
from app.routes.footing import GroundDep
from app.routes.in_steps import in_steps
from app.routes.neuron import over_sample
from app.routes.sides import compared
from app.views import atlas as views
from app.views.compare import SidesView
from app.views.neuron import Live, Sample

router = APIRouter(prefix="/api/v1", tags=["atlas"])


@router.get("/models/{key}/neurons")
async def neurons(key: str, query: Annotated[requests.NeuronsQuery, Query()], ground: GroundDep) -> views.NeuronsView:
    """Every MLP neuron by its weights: filtered, sorted, a page at a time, with labels and their conditions."""
    found: views.NeuronsView = await ground.ask(key, answers.neurons, query)
    return found


@router.get("/models/{key}/neurons/{neuron}")
async def neuron(
    key: str, neuron: NeuronName, query: Annotated[requests.NeuronQuery, Query()], ground: GroundDep
) -> views.NeuronView:
    """One neuron: weights, cosines with every singular vector, direct logit effect, frequency, sweep evidence."""
    found: views.NeuronView = await ground.ask(key, answers.neuron, neuron, query)
    return found


@router.post("/models/{key}/neurons/{neuron}")
async def live(key: str, neuron: NeuronName, body: PromptRequest, ground: GroundDep) -> Live:
    """One neuron on a prompt: its activation, its effect on entropy token by token, and its activation held fixed."""
    return cast(Live, await in_steps(ground.caller, key, work.live, body, neuron))


@router.get("/models/{key}/neurons/{neuron}/sample")
async def sample(key: str, neuron: NeuronName, ground: GroundDep) -> Sample:
    """Where in the model's sample text a neuron is most active, and where it changes entropy most."""
    return await over_sample(ground, key, neuron)


@router.get("/models/{key}/spectrum")
async def spectrum(
    key: str, query: Annotated[requests.SpectrumQuery, Query()], ground: GroundDep
) -> views.SpectrumView:
    """Singular values of W_U, the knee and how steep it is, rho by layer, random controls."""
    found: views.SpectrumView = await ground.ask(key, answers.spectrum, query)
    return found


@router.get("/models/{key}/nullspace")
async def nullspace(
    key: str, query: Annotated[requests.NullspaceQuery, Query()], ground: GroundDep
) -> views.NullspaceShares:
    """How much of what a layer's neurons, the heads and the embeddings write lies in the null space."""
    found: views.NullspaceShares = await ground.ask(key, null.shares, query)
    return found


@router.post("/models/{key}/walk")
async def walk(key: str, body: requests.WalkRequest, ground: GroundDep) -> views.WalkView:
    """A prompt's last residual stream moved along one singular vector of W_U: LN scale, entropy, log-probabilities."""
    found: views.WalkView = await ground.ask(key, null.walked, body)
    return found


@router.get("/models/{key}/frequency")
async def frequency(
    key: str, query: Annotated[requests.FrequencyQuery, Query()], ground: GroundDep
) -> views.FrequencyView:
    """Where the token counts come from, the neurons' alignment with them, softmax(b_U) against them."""
    found: views.FrequencyView = await ground.ask(key, frequencies.summary, query)
    return found


@router.post("/models/{key}/frequency")
async def on_prompt(key: str, body: requests.FrequencyRequest, ground: GroundDep) -> views.FrequencyOnPrompt:
    """KL(P_freq ‖ P) over a prompt, and the distribution with one neuron ablated where it stands out most."""
    found: views.FrequencyOnPrompt = await ground.ask(key, frequencies.on_prompt, body)
    return found


@router.get("/models/{key}/reproduce")
async def reproduce(key: str, ground: GroundDep) -> views.ReproduceView:
    """Values that the literature publishes for this model beside what is found here; 404 where there are none."""
    found: views.ReproduceView = await ground.ask(key, answers.reproduce)
    return found


@router.get("/compare")
async def compare(query: Annotated[requests.SidesQuery, Query()], ground: GroundDep) -> SidesView:
    """The last layers of two models or checkpoints, and how the entropy neurons came up through training."""
    return await compared(ground, query, query.model_dump())
