"""The JSON API over a model's weights: neurons, one neuron, the spectrum, token frequency."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.answers import atlas as answers
from app.requests import atlas as requests
from app.requests.core import NeuronName
from app.routes.footing import GroundDep
from app.views import atlas as views

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


@router.get("/models/{key}/spectrum")
async def spectrum(
    key: str, query: Annotated[requests.SpectrumQuery, Query()], ground: GroundDep
) -> views.SpectrumView:
    """Singular values of W_U, the knee and how steep it is, rho by layer, random controls."""
    found: views.SpectrumView = await ground.ask(key, answers.spectrum, query)
    return found


@router.get("/models/{key}/frequency")
async def frequency(
    key: str, query: Annotated[requests.FrequencyQuery, Query()], ground: GroundDep
) -> views.FrequencyView:
    """Where the token counts come from, the neurons' alignment with them, softmax(b_U) against them."""
    found: views.FrequencyView = await ground.ask(key, answers.frequency, query)
    return found


@router.get("/models/{key}/reproduce")
async def reproduce(key: str, ground: GroundDep) -> views.ReproduceView:
    """Values that the literature publishes for this model beside what is found here; 404 where there are none."""
    found: views.ReproduceView = await ground.ask(key, answers.reproduce)
    return found
