"""What is asked of the weights: every neuron, the spectrum, the null space, token frequency."""

from app.atlas import request as requests
from app.atlas import view as views
from app.core.later import Later
from app.core.prices import of_k
from app.core.question import Question
from app.core.request import NothingAsked

NEURONS = Question(
    name="neurons",
    says="Every MLP neuron by its weights: filtered, sorted, a page at a time, with labels and their conditions.",
    path="neurons",
    method="GET",
    request=requests.NeuronsQuery,
    view=views.NeuronsView,
    answer=Later("app.atlas.answer:neurons"),
    before_weights=Later("app.atlas.answer:neurons_before_weights"),
    cost=of_k,
    role="view",
    atlas="needed",
    prints=Later("app.atlas.shell:print_neurons"),
    command="neurons",
)
SPECTRUM = Question(
    name="spectrum",
    says="Singular values of W_U, the knee and how steep it is, rho by layer, random controls.",
    path="spectrum",
    method="GET",
    request=requests.SpectrumQuery,
    view=views.SpectrumView,
    answer=Later("app.atlas.answer:spectrum"),
    before_weights=Later("app.atlas.answer:spectrum_before_weights"),
    cost=of_k,
    role="view",
    atlas="needed",
    prints=Later("app.atlas.shell:print_spectrum"),
    command="spectrum",
)
NULLSPACE = Question(
    name="nullspace",
    says="How much of what a layer's neurons, the heads and the embeddings write lies in the null space.",
    path="nullspace",
    method="GET",
    request=requests.NullspaceQuery,
    view=views.NullspaceShares,
    answer=Later("app.atlas.nullspace:shares"),
    cost=of_k,
    role="view",
    atlas="needed",
)
WALK = Question(
    name="walk",
    says="A prompt's last residual stream moved along one singular vector of W_U: LN scale, entropy, "
    "log-probabilities.",
    path="walk",
    request=requests.WalkRequest,
    view=views.WalkView,
    answer=Later("app.atlas.nullspace:walked"),
    cost=2,
    atlas="needed",
    prints=Later("app.atlas.shell:print_walk"),
    command="walk",
)
FREQUENCY = Question(
    name="frequency",
    says="Where the token counts come from, the neurons' alignment with them, softmax(b_U) against them.",
    path="frequency",
    method="GET",
    request=requests.FrequencyQuery,
    view=views.FrequencyView,
    answer=Later("app.atlas.frequency:summary"),
    role="view",
    atlas="needed",
)
FREQUENCY_ON = Question(
    name="frequency_on",
    says="KL(P_freq ‖ P) over a prompt, and the distribution with one neuron ablated at a token.",
    path="frequency",
    request=requests.FrequencyRequest,
    view=views.FrequencyOnPrompt,
    answer=Later("app.atlas.frequency:on_prompt"),
    cost=4,
    atlas="needed",
)
REPRODUCE = Question(
    name="reproduce",
    says="Values that the literature publishes for this model beside what is found here; 404 where there are none.",
    path="reproduce",
    method="GET",
    request=NothingAsked,
    view=views.ReproduceView,
    answer=Later("app.atlas.answer:reproduce"),
    role="view",
    atlas="needed",
)
QUESTIONS = (NEURONS, SPECTRUM, NULLSPACE, WALK, FREQUENCY, FREQUENCY_ON, REPRODUCE)
