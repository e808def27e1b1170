"""Requests over corpus sweeps: start one, list its neurons, draw its figures."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from analysis.grammar import listed
from analysis.sweep.config import SweepBaseline, SweepConfig
from analysis.types import NeuronId, TokenFilter
from app.core.request import Listed, NeuronName, PageFormat, Strict, TableRequest, Text
from app.core.wording import spelled

MEASURES = (
    "abs_loss",
    "loss",
    "abs_entropy",
    "entropy",
    "abs_kl_unigram",
    "kl_unigram",
    "reciprocal_rank",
    "top1_changes",
)
CONDITIONS = ("total", "direct", "frequency", "frozen")
SWEEP_COLUMNS = (
    "neuron",
    "ln_fraction",
    "frequency_fraction",
    "mlp_norm_fraction",
    "baseline",
    "activation.mean",
    "activation.std",
    "activation.low",
    "activation.high",
    *(f"{condition}.{measure}" for condition in CONDITIONS for measure in MEASURES),
)
FIGURES = ("1", "2a", "2b", "2c", "2d", "2e", "2f", "3a", "3b", "3c", "4a", "4b", "4c", "6", "7", "8")
FigureName = Literal["1", "2a", "2b", "2c", "2d", "2e", "2f", "3a", "3b", "3c", "4a", "4b", "4c", "6", "7", "8"]
CorpusId = Annotated[
    str,
    Field(
        pattern=spelled(r"^(sample|[0-9a-f]{12})$", "sample, or the id of an uploaded text (12 hexadecimal digits)"),
        description="`sample`, or the id of an upload.",
    ),
]


class FilterRequest(Strict):
    """Which tokens count. The defaults are the paper's."""

    first: int = Field(3, ge=0, le=10_000, description="First position of a row that counts.")
    last: int = Field(1, ge=1, le=10_000, description="How many positions at the end do not.")
    exclude_specials: bool = Field(
        True, description="Leave out BOS, EOS (and newline in GPT models) and what precedes."
    )


class SweepRequest(Strict):
    """Ablate neurons over a text, one at a time, at every token."""

    name: Text = Field("", max_length=80, description="What it is called; empty: by what it holds.")
    model: Text | None = Field(None, description="null: the server's first.")
    corpus: CorpusId = "sample"
    neurons: Literal["all"] | Annotated[Listed[NeuronName], Field(min_length=1, max_length=20_000)] = Field(
        "all", description="all: every neuron of the last layer. Neurons of earlier layers take forward passes."
    )
    rows: int | None = Field(None, ge=1, le=1_000_000, description="A seeded sample of that many rows; null: all.")
    length: int | None = Field(None, ge=5, le=100_000, description="Tokens in a row; null: n_ctx, 256 at most.")
    baseline: Text = Field("mean", description="mean, filtered_mean, zero, resample, percentile:90, or a number.")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    token_filter: FilterRequest = FilterRequest()
    shard_rows: int = Field(8, ge=1, le=10_000, description="Rows in one durable unit of work.")
    bootstrap: int = Field(200, ge=0, le=2000, description="Replicates over documents, for the intervals.")
    sample_tokens: int = Field(512, ge=1, le=10_000, description="Tokens whose values are kept for scatter plots.")
    split_at_end: bool = Field(
        False, description="The end-of-text token inside a document ends it: no row runs across."
    )

    keep_sinks: bool = Field(
        False, description="The mean counts first tokens that are attention sinks, too; they are left out by default."
    )

    @model_validator(mode="after")
    def _a_baseline(self) -> Self:
        from analysis.types import InputError

        try:
            SweepBaseline.parse(self.baseline)
        except InputError as error:
            raise ValueError(error.told) from None
        return self

    def config(self) -> SweepConfig:
        return SweepConfig(
            neurons=None if self.neurons == "all" else tuple(NeuronId.parse(name) for name in self.neurons),
            n_rows=self.rows,
            length=self.length,
            seed=self.seed,
            baseline=SweepBaseline.parse(self.baseline),
            token_filter=TokenFilter(**self.token_filter.model_dump()),
            shard_rows=self.shard_rows,
            bootstrap=self.bootstrap,
            sample_tokens=self.sample_tokens,
            split_at_end=self.split_at_end,
            keep_sinks=self.keep_sinks,
        )


class SweepForm(Strict):
    """The same as the page's form writes it: empty fields are left open."""

    model: Text = ""
    corpus: CorpusId = "sample"
    neurons: Text = Field("", max_length=12_000)
    name: Text = Field("", max_length=80)
    rows: Text = Field("", max_length=12)
    baseline: Text = Field("mean", max_length=40)
    seed: Text = Field("0", max_length=12)
    length: Text = Field("", max_length=12)
    split_at_end: bool = False
    format: PageFormat = "html"

    def request(self) -> SweepRequest:
        """Validated like any other request."""
        names = listed(self.neurons)
        values = {
            "model": self.model or None,
            "corpus": self.corpus,
            "neurons": names or "all",
            "name": " ".join(self.name.split()),
            "rows": self.rows or None,
            "length": self.length or None,
            "baseline": self.baseline or "mean",
            "seed": self.seed or 0,
            "split_at_end": self.split_at_end,
        }
        return SweepRequest.model_validate(values)


class SweepQuery(TableRequest):
    """Which neurons of a sweep to list. `min_<column>` and `max_<column>` filter."""

    columns: ClassVar[tuple[str, ...]] = SWEEP_COLUMNS

    sort: str = Field("total.abs_entropy", description=f"One of: {', '.join(SWEEP_COLUMNS)}.")


class SweepPageQuery(SweepQuery):
    """The page's address."""

    format: PageFormat = "html"
    model: Text | None = None
    limit: int = Field(25, ge=1, le=1000)


class FigureQuery(Strict):
    """What a figure shows. The sets are the strongest neurons by the sweep's own evidence, beside random directions of
    their norms."""

    neuron: NeuronName | None = Field(None, description="For figures of one neuron; null: the strongest.")
    top: int = Field(6, ge=1, le=40, description="Neurons in the set.")
    k: int | None = Field(None, ge=1, le=100_000, description="Dimension of the null space; null: the default.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Draws the controls.")
    format: PageFormat = "html"
    model: Text | None = None

    @field_validator("neuron", "k", mode="before")
    @classmethod
    def _empty_is_open(cls, value: object) -> object:
        return None if value == "" else value


class GalleryQuery(FigureQuery):
    """A page of figures."""

    group: Literal["entropy", "frequency", "tokens", "spectrum"] = "entropy"


class CompareQuery(Strict):
    """Two sweeps side by side, by one column."""

    a: Annotated[str, Field(max_length=120)]
    b: Annotated[str, Field(max_length=120)]
    column: str = Field("total.abs_entropy", description=f"One of: {', '.join(SWEEP_COLUMNS)}.")
    offset: int = Field(0, ge=0)
    limit: int = Field(50, ge=1, le=1000)
    format: PageFormat = "html"
    model: Text | None = None

    @model_validator(mode="after")
    def _known_column(self) -> Self:
        if self.column not in SWEEP_COLUMNS[1:]:
            raise ValueError(f"column: no column {self.column[:40]!r}; there are: {', '.join(SWEEP_COLUMNS[1:])}")
        return self


class CalibrationQuery(Strict):
    """Calibration of the clean model and under ablation, over the rows of a sweep."""

    neurons: Text = Field("", max_length=12_000, description="Neurons ablated together; empty: the strongest.")
    top: int = Field(4, ge=1, le=64, description="How many, when none are named.")
    controls: int = Field(20, ge=1, le=100, description="Sets of random directions; a p-value needs 20.")
    bins: int = Field(15, ge=2, le=50)
    rows: int | None = Field(None, ge=1, le=100_000, description="Rows of the sweep that are used; null: all.")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    format: PageFormat = "html"
    model: Text | None = None

    @field_validator("rows", mode="before")
    @classmethod
    def _empty_is_open(cls, value: object) -> object:
        return None if value == "" else value
