"""The model writes."""

from app.core.later import Later
from app.core.question import Question
from app.generate.dial_request import DialRequest, at_once, needs_atlas, price, short
from app.generate.dial_view import DialView
from app.generate.request import GenerateRequest
from app.generate.view import GenerateView

GENERATE = Question(
    name="generate",
    says="""The prompt continued, with the confidence of every written token and the neurons that set it.

    With `Accept: text/event-stream` it comes as it is written, an event a token, the last one the whole; with
    `application/x-ndjson` a line each.""",
    path="generate",
    request=GenerateRequest,
    view=GenerateView,
    answer=Later("app.generate.answer:generate"),
    lines=Later("app.generate.answer:lines"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.generate.told:of_text"),
    prints=Later("app.generate.shell:print_generate"),
    prints_coming=Later("app.generate.shell:print_as_written"),
    command="generate",
)
DIAL = Question(
    name="dial",
    says="The prompt continued with neurons turned up or down, beside the temperature and the random neurons of the "
    "same change of entropy.",
    path="dial",
    request=DialRequest,
    view=DialView,
    answer=Later("app.generate.dial_answer:dial"),
    steps=True,
    cost=price,
    permalink=True,
    tells=Later("app.generate.told:of_dials"),
    atlas=lambda request: "needed" if needs_atlas(request) else "no",
    job=True,
    settled=Later("app.generate.dial_answer:named"),
    at_once=at_once,
    repeats=short,
    charts={"means": Later("app.generate.dial_charts:means")},
    prints=Later("app.generate.shell:print_dial"),
    command="dial",
)
QUESTIONS = (GENERATE, DIAL)
