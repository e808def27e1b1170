"""The model writes."""

from app.core.later import Later
from app.core.question import Question
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
    prints=Later("app.generate.shell:print_generate"),
    command="generate",
)
QUESTIONS = (GENERATE,)
