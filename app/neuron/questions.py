"""What is asked of one neuron: its weights, and the neuron at work."""

from dataclasses import replace

from app.core.later import Later
from app.core.prices import of_k
from app.core.question import Question
from app.core.request import NothingAsked, PromptRequest
from app.neuron.request import NeuronQuery
from app.neuron.view import Live, NeuronView, Sample

NEURON = Question(
    name="neuron",
    says="One neuron: weights, cosines with every singular vector, direct logit effect, frequency, sweep evidence.",
    path="neurons/{neuron}",
    method="GET",
    request=NeuronQuery,
    view=NeuronView,
    answer=Later("app.neuron.weights:neuron"),
    cost=of_k,
    role="view",
    atlas="needed",
)
NEURON_ON = Question(
    name="neuron_on",
    says="One neuron on a prompt: its activation, its effect on entropy token by token, and its activation held fixed.",
    path="neurons/{neuron}",
    request=PromptRequest,
    view=Live,
    answer=Later("app.neuron.answer:live"),
    steps=True,
    cost=10,
)
NEURON_SAMPLE = Question(
    name="neuron_sample",
    says="Where in the model's sample text a neuron is most active, and where it changes entropy most.",
    path="neurons/{neuron}/sample",
    method="GET",
    request=NothingAsked,
    view=Sample,
    answer=Later("app.neuron.answer:sample"),
    steps=True,
    cost=10,
)
SAMPLE_SO_FAR = replace(NEURON_SAMPLE, answer=Later("app.neuron.answer:sample_so_far"))
"""The same for a page, which shows what there is by now: a sample of a larger model takes minutes."""
QUESTIONS = (NEURON, NEURON_ON, NEURON_SAMPLE)
