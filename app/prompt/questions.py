"""What is asked of a prompt as a whole."""

from collections.abc import Collection

from app.core import prices
from app.core.later import Later
from app.core.question import PROMPT_PAGE, Question
from app.core.request import PromptRequest, TraceRequest
from app.core.view import TokensView, TraceView
from app.prompt.request import PromptState
from app.prompt.story_view import StoryRequest, StoryView
from app.prompt.view import PromptView

EVERYTHING = frozenset({"selected", "effects"})
"""The parts of the page that are computed only where they are shown."""


def page_price(state: PromptState, parts: Collection[str] = EVERYTHING, *_: object) -> float:
    """A trace, and the table of effects where it is shown; both twice beside a pinned run."""
    each = prices.TRACE + ("effects" in parts) * prices.EFFECTS
    return each * (2 if state.pin else 1)


TOKENS = Question(
    name="tokens",
    says="The prompt cut into tokens, beside the limit.",
    path="tokens",
    request=PromptRequest,
    view=TokensView,
    answer=Later("app.core.answer:count"),
    role="view",
)
TRACE = Question(
    name="trace",
    says="Per-token entropy, loss, LN scale, KL to the unigram distribution; clean and intervened.",
    path="trace",
    request=TraceRequest,
    view=TraceView,
    answer=Later("app.core.answer:trace"),
    cost=prices.TRACE,
    permalink=True,
    charts={"curves": Later("app.prompt.charts:curves_of_trace")},
    tells=Later("app.prompt.told:of_trace"),
    prints=Later("app.prompt.shell:print_trace"),
    command="trace",
)
PAGE = Question(
    name=PROMPT_PAGE,
    says="The prompt page as it stands: the run, the selected token, the neurons, a pinned run.",
    request=PromptState,
    view=PromptView,
    answer=Later("app.prompt.answer:stored_page"),
    cost=page_price,
    permalink=True,
    charts={"curves": Later("app.prompt.charts:curves")},
    opens=Later("app.prompt.permalink:opened"),
    tells=Later("app.prompt.told:of_page"),
    spelled=Later("app.prompt.permalink:spelled"),
)
STORY = Question(
    name="story",
    says="The paper's story in five steps: logits scaled, the LN scale held, a direction nobody reads, an entropy "
    "neuron and a frequency neuron turned, each exact.",
    path="story",
    method="GET",
    request=StoryRequest,
    view=StoryView,
    answer=Later("app.prompt.story:computed"),
    cost=prices.TRACE,
    atlas="needed",
    prints=Later("app.prompt.shell:print_story"),
    command="story",
)
QUESTIONS = (TOKENS, TRACE, PAGE, STORY)
