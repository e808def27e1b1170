"""What is asked of a model's own soundness."""

from app.core.later import Later
from app.core.question import Question
from app.core.request import NothingAsked
from app.server.view import CheckView

CHECK = Question(
    name="check",
    says="The identities that the numbers rest on, tried live on the resident weights.",
    path="check",
    method="GET",
    request=NothingAsked,
    view=CheckView,
    answer=Later("app.server.check:check"),
    steps=True,
    cost=4,
)
QUESTIONS = (CHECK,)
