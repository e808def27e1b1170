"""What is asked of repeated text."""

from app.core.later import Later
from app.core.question import Question
from app.induction import request as requests
from app.induction import view as views

INDUCTION = Question(
    name="induction",
    says="Repeated text: curves by position, every last-layer neuron by its weighted difference, clipped ablation.",
    path="induction",
    request=requests.InductionRequest,
    view=views.InductionView,
    answer=Later("app.induction.answer:induction"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.induction.told:of_induction"),
    atlas="wished",
    loose=frozenset({"labels", "labels_rest_on"}),  # they follow from the sweep that speaks when they are asked for
    charts={"curves": Later("app.induction.charts:curves"), "ranking": Later("app.induction.charts:ranking")},
    every_row=Later("app.induction.rows:every_row"),
    opens=Later("app.induction.routes:saved"),
)
HEADS = Question(
    name="heads",
    says="Induction scores of every attention head, and one head's pattern.",
    path="heads",
    request=requests.HeadsRequest,
    view=views.HeadsView,
    answer=Later("app.induction.answer:head_scores"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.induction.told:of_heads"),
    charts={"map": Later("app.induction.charts_panels:head_map")},
    every_row=Later("app.induction.rows:every_row"),
)
ATTRIBUTION = Question(
    name="attribution",
    says="A last-layer neuron's pre-activation, split exactly over heads, MLPs and the embedding (norm scale frozen).",
    path="induction/attribution",
    request=requests.AttributionRequest,
    view=views.AttributionView,
    answer=Later("app.induction.answer:attribution"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.induction.told:of_attribution"),
    charts={
        "parts": Later("app.induction.charts_panels:parts"),
        "positions": Later("app.induction.charts_panels:parts_by_position"),
    },
)
HEAD_ABLATION = Question(
    name="head_ablation",
    says="BOS, mean or zero ablation of heads, each query of the repeat by itself, against random heads.",
    path="induction/ablation",
    request=requests.HeadAblationRequest,
    view=views.HeadAblationView,
    answer=Later("app.induction.answer:head_ablation"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.induction.told:of_ablation"),
    job=True,
    charts={
        "groups": Later("app.induction.charts_panels:groups"),
        "queries": Later("app.induction.charts_panels:queries"),
    },
)
NATURAL_REPEATS = Question(
    name="natural_repeats",
    says="6-grams that occur twice in the sample text, or in your own: both occurrences laid over each other.",
    path="induction/natural",
    request=requests.NaturalRequest,
    view=views.NaturalView,
    answer=Later("app.induction.answer:natural_repeats"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.induction.told:of_natural"),
    charts={"aligned": Later("app.induction.charts_panels:aligned")},
)
QUESTIONS = (INDUCTION, HEADS, ATTRIBUTION, HEAD_ABLATION, NATURAL_REPEATS)
