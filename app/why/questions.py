"""Why the model is as sure as it is: a prediction taken apart."""

from app.core.later import Later
from app.core.question import Question
from app.why.request import CircuitRequest, WhyCompareRequest, WhyRequest, WhyTextRequest
from app.why.view import CircuitView, WhyCompareView, WhyTextView, WhyView

WHY = Question(
    name="why",
    says="""A prediction's entropy, loss or log-probability split exactly over all that wrote to the stream.

    With `Accept: application/x-ndjson` the shares come first, then the whole with the ablations beside them.""",
    path="why",
    request=WhyRequest,
    view=WhyView,
    answer=Later("app.why.answer:why"),
    lines=Later("app.why.answer:why_views"),
    steps=True,
    job=True,
    cost=10,
    permalink=True,
    charts={"why": Later("app.why.charts:waterfall")},
    every_row=Later("app.why.answer:every_row"),
    tells=Later("app.why.told:of_why"),
    prints=Later("app.why.shell:print_why"),
    command="why",
)
WHY_TEXT = Question(
    name="why_text",
    says="""The same split at every position of the prompt.

    With `Accept: application/x-ndjson` it comes as it is computed, with more positions in each line.""",
    path="why/text",
    request=WhyTextRequest,
    view=WhyTextView,
    answer=Later("app.why.answer:why_text"),
    lines=Later("app.why.answer:why_text_views"),
    steps=True,
    job=True,
    cost=10,
    permalink=True,
    tells=Later("app.why.told:of_text"),
    charts={"why_text": Later("app.why.charts:along")},
    prints=Later("app.why.shell:print_why_text"),
    command="why-text",
)
WHY_COMPARE = Question(
    name="why_compare",
    says="What makes the difference between two predictions, of one text or of two: each part's share here less there.",
    path="why/compare",
    request=WhyCompareRequest,
    view=WhyCompareView,
    answer=Later("app.why.answer_compare:why_compare"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.why.told:of_compared"),
    charts={"why_compare": Later("app.why.charts:differences")},
    prints=Later("app.why.shell:print_why_compare"),
    command="why-compare",
)
CIRCUIT = Question(
    name="circuit",
    says="""What drives a neuron, or a component's share of the entropy: back over hops, edges checked on demand.

    With `Accept: application/x-ndjson` the circuit comes first, then the whole with every edge checked.""",
    path="circuit",
    request=CircuitRequest,
    view=CircuitView,
    answer=Later("app.why.answer_circuit:circuit"),
    lines=Later("app.why.answer_circuit:circuit_views"),
    steps=True,
    job=True,
    cost=10,
    permalink=True,
    tells=Later("app.why.told:of_circuit"),
    charts={"circuit": Later("app.why.circuit_chart:circuit")},
    prints=Later("app.why.shell:print_circuit"),
    command="circuit",
)
QUESTIONS = (WHY, WHY_TEXT, WHY_COMPARE, CIRCUIT)
