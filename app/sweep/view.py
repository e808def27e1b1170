"""The answers of corpus sweeps. Units: nats; null where undefined."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.core.jobs_view import JobView, State
from app.core.names import NeuronName
from app.core.view import StandingView, View
from app.core.wording import spelled

Interval = tuple[float, float]


class CorpusView(View):
    """An uploaded text."""

    id: str
    name: str
    n_documents: int
    n_characters: int
    n_bytes: int = Field(description="On disk, as it was sent.")
    person: str | None = Field(description="Who uploaded it; null where an older version received it.")
    created: datetime
    used: datetime = Field(description="When a sweep over it was last started.")


class CorporaView(View):
    """Uploaded texts, newest first, and the bytes of what the caller has."""

    person: str
    rows: list[CorpusView]
    used_bytes: int
    quota_bytes: int | None = Field(description="What one person may keep; null: no bound.")
    days: float | None = Field(description="After its last use a text is removed; null: never.")

    def csv_rows(self) -> list[dict[str, Any]]:
        return [row.model_dump(mode="json") for row in self.rows]


class EstimateView(View):
    """What a sweep would cost, from a timed probe on this machine. Nothing has been started."""

    rows: int
    tokens: int = Field(description="Kept and other tokens of the rows.")
    neurons: int
    token_neuron_pairs: int
    seconds: float = Field(description="If nobody else used the device.")
    at_most: bool = Field(description="Kernels are still being compiled, and the probe ran without: it will be less.")
    memory_bytes: int = Field(description="Beside the model.")
    disk_bytes: int


class SweepRef(View):
    """One sweep in the list."""

    id: str
    name: str = Field("", description="What somebody called it, else what it holds.")
    model: str
    source: str
    neurons: str
    baseline: str
    baseline_text: str = Field(description="The same in words: a sweep's means are over its own text.")
    rows: int | None
    bundled: bool
    job: JobView


class SweepsView(View):
    sweeps: list[SweepRef]
    models: list[str]
    corpus: CorpusView | None = None
    corpora: CorporaView | None = Field(None, description="The caller's uploads; an administrator sees everybody's.")
    form: dict[str, Any] = Field(default_factory=dict)
    estimate: EstimateView | None = None

    def csv_rows(self) -> list[dict[str, Any]]:
        return [sweep.model_dump(mode="json") for sweep in self.sweeps]


class Measures(View):
    """Averages over kept tokens, intervened minus clean."""

    abs_loss: float | None
    loss: float | None
    abs_entropy: float | None
    entropy: float | None
    abs_kl_unigram: float | None
    kl_unigram: float | None
    reciprocal_rank: float | None = Field(description="Change of 1/(rank + 1) of the next token.")
    top1_changes: float | None = Field(description="Share of tokens whose most probable next token changes.")


class ActivationView(View):
    mean: float | None = Field(description="Over kept tokens.")
    std: float | None
    low: float | None
    high: float | None


class SweepRow(View):
    """One neuron. TE is total.abs_loss, DE direct.abs_loss."""

    neuron: NeuronName
    ln_fraction: float | None = Field(description="1 - DE/TE; null where TE is too small to divide by.")
    ln_reliable: bool
    frequency_fraction: float | None
    frequency_reliable: bool
    mlp_norm_fraction: float | None = Field(
        None,
        description="(DE - DE with both norms' scales frozen)/TE: through the norm behind the MLP; null where there is "
        "none.",
    )
    baseline: float | None = Field(description="null under resampling.")
    activation: ActivationView
    total: Measures
    direct: Measures = Field(description="LN scale frozen.")
    frequency: Measures | None = Field(description="Frequency component frozen; null without token counts.")
    frozen: Measures | None = Field(
        None, description="The scales of the final norm and of the one behind the MLP frozen; null where there is none."
    )
    variance: dict[str, float | None] = Field(description="`condition.measure` -> variance over kept tokens.")
    intervals: dict[str, Interval] = Field(description="95 % bootstrap intervals over documents.")


class KeptSweep(View):
    """What is stored of a finished sweep under its permalink: fields of `SweepView`, in their order there."""

    id: Annotated[str, Field(pattern=spelled(r"^[\w.:-]{1,120}$", "the name of a sweep"))]
    manifest: dict[str, Any] | None
    clean: dict[str, float | None] | None
    n_rows: int
    n_tokens: int
    n_neurons: int
    total: int
    rows: list[SweepRow]


class SweepView(View):
    """A sweep: how far it is, and its neurons."""

    id: str
    state: State
    ref: SweepRef
    progress: JobView
    config: dict[str, Any] | None
    manifest: dict[str, Any] | None = Field(description="Provenance; null until the text has been read.")
    clean: dict[str, float | None] | None = Field(description="Averages of the clean run over kept tokens.")
    n_rows: int = Field(description="Rows in these numbers: all of them once it is finished.")
    n_tokens: int
    n_neurons: int
    total: int = Field(description="Neurons that pass the filters.")
    rows: list[SweepRow]
    sort: str
    order: str
    offset: int
    limit: int
    permalink: str | None = Field(None, description="Of the finished sweep, by its request: model, text, settings.")


class Point(View):
    """One mark of a figure."""

    series: str
    label: str
    x: float | str | None
    y: float | None
    colour: float | None = None
    low: float | None = None
    high: float | None = None
    href: str | None = None
    marked: bool = False


class NeuronOfFigure(View):
    """What its weights say of a neuron that is a mark."""

    norm: float | None
    logit_var: float | None
    rho: float | None = Field(description="At the figure's k.")
    labels: list[str] = Field(description="`entropy` where it carries that label.")


class FigureView(View):
    """A figure as data: what is drawn and its CSV."""

    name: str
    title: str
    caption: str
    kind: Literal["scatter", "box", "lines", "bars"]
    x: str
    y: str
    x_log: bool = False
    y_log: bool = False
    colour: str | None = None
    colour_centred: bool = False
    diagonal: bool = False
    rows: list[Point]
    neurons: dict[str, NeuronOfFigure] = Field(default_factory=dict, description="Where the marks are neurons.")
    notes: list[str] = Field(default_factory=list)
    sweep: str
    model: str


class GalleryView(View):
    """Some figures of a sweep on one page."""

    sweep: str
    sweep_name: str
    model: str
    group: str
    groups: list[str]
    names: list[str]
    query: dict[str, Any]
    figures: list[FigureView]

    def csv_rows(self) -> list[dict[str, Any]]:
        return [{"figure": each.name, **point.model_dump()} for each in self.figures for point in each.rows]


class ExampleView(View):
    """A token where the quantity is extreme, with the text around it."""

    value: float
    row: int
    position: int
    before: str
    token: str
    next: str
    after: str


class ExampleList(View):
    quantity: str
    sign: Literal[1, -1]
    examples: list[ExampleView]


class SweepNeuronView(View):
    """What a sweep knows of one neuron."""

    sweep: str
    sweep_name: str = Field("", description="As somebody called it, else by what it holds.")
    model: str
    neuron: str
    row: SweepRow
    histogram: list[int] = Field(description="Kept tokens by activation, equal bins from `low` to `high`.")
    low: float
    high: float
    lists: list[ExampleList]

    def csv_rows(self) -> list[dict[str, Any]]:
        return [
            {"quantity": found.quantity, "sign": found.sign, **example.model_dump()}
            for found in self.lists
            for example in found.examples
        ]


class CompareRow(View):
    neuron: str
    a: float | None
    b: float | None
    difference: float | None = Field(description="b - a")


class CompareView(View):
    a: SweepRef
    b: SweepRef
    column: str
    label: str = Field(description="What the column is, in words.")
    same_weights: bool
    columns: dict[str, str] = Field(description="Every column that can be compared, and what it is.")
    choices: list[SweepRef]
    correlation: float | None = Field(description="Spearman's, over the neurons of both.")
    total: int
    offset: int
    limit: int
    rows: list[CompareRow]
    points: list[Point]


class BinView(View):
    """Tokens whose top probability falls into one bin."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class CalibrationRun(View):
    """One run: the clean model, a set of neurons ablated together, or the same changes along random directions."""

    name: str
    neurons: list[str] = Field(description="Empty for a control, which is made of directions.")
    norms: list[float] = Field(description="Of what the neurons write, or of a control's directions.")
    ece: float = Field(description="Expected calibration error, corrected for its upward bias.")
    ece_interval: Interval | None = Field(description="95 %, over documents; null where there is one document.")
    ece_plain: float = Field(description="Without the correction: the sum over bins as it stands.")
    ece_change: float | None = Field(description="Minus the clean run's; null for the clean run.")
    ece_change_interval: Interval | None = Field(description="95 %, paired: over the same documents.")
    brier: float
    loss: float
    entropy: float
    accuracy: float
    bins: list[BinView]


class CumulativePoint(View):
    """The strongest n neurons ablated together."""

    series: str
    n: int
    entropy: float
    loss: float
    ece: float


class CalibrationView(View):
    sweep: str
    sweep_name: str = Field("", description="As somebody called it, else by what it holds.")
    model: str
    n_bins: int
    n_rows: int
    n_tokens: int
    runs: list[CalibrationRun]
    standings: list[StandingView] = Field(description="The set's changes against the clean run among its controls'.")
    note: str | None = Field(description="What the ablated set is, where none was named.")
    n_documents: int
    cumulative: list[CumulativePoint]
    query: dict[str, Any]

    def csv_rows(self) -> list[dict[str, Any]]:
        return [{"run": run.name, **found.model_dump()} for run in self.runs for found in run.bins]
