"""What is asked of last-layer neurons at a token, or over a whole prompt."""

from app.core import prices
from app.core.later import Later
from app.core.question import Question
from app.core.request import EffectsRequest
from app.core.view import EffectsView
from app.effects import request as requests
from app.effects import view as views

EFFECTS = Question(
    name="effects",
    says="Every last-layer neuron ablated by itself at one token: the exact effect and its parts.",
    path="effects",
    request=EffectsRequest,
    view=EffectsView,
    answer=Later("app.core.answer:effects"),
    cost=prices.EFFECTS,
    permalink=True,
    tells=Later("app.effects.told:of_effects"),
    prints=Later("app.effects.shell:print_effects"),
    command="effects",
)
HEATMAP = Question(
    name="heatmap",
    says="""Every token by every last-layer neuron, each ablated by itself; the first rows by a column.

    With `Accept: application/x-ndjson` it comes as it is computed: a heat map a line, some four a second, each with
    more cells than the one before it (`done` of `cells`); the last line is the whole.""",
    path="heatmap",
    request=requests.HeatmapRequest,
    view=views.HeatmapView,
    answer=Later("app.effects.answer:heatmap"),
    lines=Later("app.effects.answer:heatmap_views"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.effects.told:of_heatmap"),
    charts={"heatmap": Later("app.effects.charts:heatmap")},
    prints=Later("app.effects.shell:print_heatmap"),
    command="heatmap",
)
JOINT = Question(
    name="joint",
    says="A set of last-layer neurons ablated together, exactly, beside the sum of its neurons alone.",
    path="joint",
    request=requests.JointRequest,
    view=views.JointView,
    answer=Later("app.effects.answer:joint"),
    cost=10,
    permalink=True,
    tells=Later("app.effects.told:of_joint"),
    charts={"joint": Later("app.effects.charts:joint")},
    prints=Later("app.effects.shell:print_joint"),
    command="joint",
)
DOSE = Question(
    name="dose",
    says="A set's activations clamped from low to high: entropy, loss, LN scale and top-1 probability over the dose.",
    path="dose",
    request=requests.DoseRequest,
    view=views.DoseView,
    answer=Later("app.effects.answer:dose"),
    cost=10,
    permalink=True,
    tells=Later("app.effects.told:of_dose"),
    charts={"dose": Later("app.effects.charts:dose")},
    prints=Later("app.effects.shell:print_dose"),
    command="dose",
)
LENS = Question(
    name="lens",
    says="The prompt read out behind every attention and MLP: entropy, loss, KL to the end, LN scale, top tokens.",
    path="lens",
    request=requests.LensRequest,
    view=views.LensView,
    answer=Later("app.effects.answer:lens"),
    lines=Later("app.effects.answer:lens_views"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.effects.told:of_lens"),
    charts={"lens": Later("app.effects.charts:lens")},
    prints=Later("app.effects.shell:print_lens"),
    command="lens",
)
LEDGER = Question(
    name="ledger",
    says="The squared LN scale at a token, split exactly over embedding, heads, MLPs, biases, and null and row space.",
    path="ledger",
    request=requests.LedgerRequest,
    view=views.LedgerView,
    answer=Later("app.effects.answer:ledger"),
    steps=True,
    cost=10,
    permalink=True,
    tells=Later("app.effects.told:of_ledger"),
    charts={"ledger": Later("app.effects.charts:ledger")},
    prints=Later("app.effects.shell:print_ledger"),
    command="ledger",
)
QUESTIONS = (EFFECTS, HEATMAP, JOINT, DOSE, LEDGER, LENS)
