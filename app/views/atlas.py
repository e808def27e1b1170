"""The atlas: neurons by their weights, the null space, token frequency. HTML, JSON and CSV show these."""

from typing import Any, Literal

from pydantic import Field

from app.views.core import Provenance, Series, Token, View


class Source(View):
    """Where numbers that follow from the weights alone come from."""

    model: str
    source: str
    revision: str | None
    weights_sha256: str
    dtype: str
    device: str
    versions: dict[str, str]
    baseline: str | None = None
    unigram: str | None = Field(description="Source of the token counts.")
    folding: dict[str, bool] = Field(description="Switches of the readout.")
    k: int | None = Field(None, description="Dimension of the null space in use.")
    code_version: str = Field(description="Hash of the code that computed the table.")


class ConditionView(View):
    name: str
    text: str
    value: float | None
    threshold: float | None
    holds: bool | None = Field(description="null: nothing to judge by (no sweep yet, no token counts).")
    required: bool


class LabelView(View):
    name: Literal["entropy", "token-frequency", "prediction", "suppression", "partition"]
    holds: bool
    basis: Literal["weights only", "weights and sweep"]
    conditions: list[ConditionView]


class SweepEvidence(View):
    te: float | None
    de: float | None
    ln_mediated_fraction: float | None
    frequency_mediated_fraction: float | None
    mean_abs_d_entropy: float | None
    mean_abs_d_kl: float | None
    intervals: dict[str, tuple[float, float]] = Field({}, description="Column -> 95 % confidence interval.")


class EffectToken(View):
    """A token and how far one unit of activation moves its logit, before the LN scale divides."""

    id: int
    text: str
    effect: float | None


class NeuronRow(View):
    neuron: str
    layer: int
    norm: float | None = Field(description="Of the write row as the final norm sees it.")
    norm_in: float | None
    cost: float | None = Field(description="‖w_in‖² + ‖w_out‖² (+ ‖w_gate‖²): what weight decay sees.")
    cos_in_out: float | None
    norm_gate: float | None = Field(description="null where the MLP is not gated.")
    cos_gate_in: float | None
    cos_gate_out: float | None
    logit_var: float | None
    norm_over_logit_var: float | None
    skew: float | None
    kurtosis: float | None = Field(description="Pearson: a normal distribution has 3.")
    rho: float | None
    frequency_alignment: float | None = Field(description="null without token counts.")
    raised: list[EffectToken]
    lowered: list[EffectToken]
    labels: list[LabelView]
    sweep: SweepEvidence | None


class ChanceView(View):
    """rho of random directions: its root mean square, and the largest among as many as the layer has neurons."""

    rms: float
    maximum: float
    low: float
    high: float
    draws: int


class NeuronsView(View):
    total: int = Field(description="Neurons that pass the filters.")
    k: int
    knee: int | None
    chance: ChanceView
    rows: list[NeuronRow]
    provenance: Source


class Points(View):
    """All neurons of the scatter, and the random controls."""

    neuron: list[str]
    x: Series
    y: Series
    color: Series
    size: Series | None
    labels: dict[str, str] = Field(description="Neuron -> the labels that it carries, joined by commas.")
    known: dict[str, str] = Field(description="Neurons that the literature names, and as what.")
    control_x: Series
    control_y: Series
    x_chance: float | None = None
    y_chance: float | None = None


class AtlasView(View):
    model: str
    models: list[str]
    n_layers: int
    d_mlp: int
    layer: int | None
    state: dict[str, Any]
    counts: dict[str, int] = Field(description="Label -> how many neurons of the scatter carry it.")
    points: Points | None
    table: NeuronsView

    def csv_rows(self) -> list[dict[str, Any]]:
        return neuron_rows(self.table)


def neuron_rows(view: NeuronsView) -> list[dict[str, Any]]:
    """Flat rows for CSV and Parquet: label names and tokens joined."""
    found = []
    for row in view.rows:
        plain = row.model_dump(exclude={"labels", "raised", "lowered", "sweep"})
        plain["labels"] = " ".join(label.name for label in row.labels if label.holds)
        plain["raised"] = "|".join(token.text for token in row.raised)
        plain["lowered"] = "|".join(token.text for token in row.lowered)
        evidence = row.sweep.model_dump(exclude={"intervals"}) if row.sweep else dict.fromkeys(EVIDENCE)
        found.append(plain | evidence)
    return found


EVIDENCE = tuple(name for name in SweepEvidence.model_fields if name != "intervals")


class Waiting(View):
    """The atlas of a model that is still being computed."""

    model: str
    models: list[str]
    state: str
    stage: str
    fraction: float | None
    eta: float | None
    to: str = Field(description="The page that waits for it.")


class Neighbour(View):
    neuron: str
    cosine: float | None


class Histogram(View):
    """Counts between consecutive edges."""

    edges: list[float]
    counts: list[int]


class NeuronView(View):
    """One neuron, by its weights."""

    neuron: str
    layer: int
    index: int
    n_layers: int
    d_mlp: int
    previous: str | None
    next: str | None
    weights: NeuronRow
    percentiles: dict[str, float | None] = Field(description="Share of the layer's neurons below this one, 0 to 1.")
    known: str | None = Field(description="What the literature calls it.")
    k: int
    knee: int | None
    chance: ChanceView
    singular_values: list[float]
    null_space_cosines: list[float] = Field(description="abs(Uᵀ w)/‖w‖, one a singular vector; squares sum to 1.")
    raised: list[EffectToken]
    lowered: list[EffectToken]
    effect_histogram: Histogram
    effect_by_frequency: list[tuple[float, float]] | None = Field(
        description="(log10 of the token's count + 1, logit effect) of a sample of tokens; null without counts."
    )
    nearest_out: list[Neighbour]
    nearest_in: list[Neighbour]
    provenance: Source


class SpectrumView(View):
    singular_values: list[float]
    knee: int | None
    knee_ratio: float | None = Field(description="S[knee] / S[knee + 1].")
    k: int
    d_model: int
    trivial: bool = Field(description="Whether one null direction is made by centring (LayerNorm).")
    vocab_centred: bool
    rho_quantiles: dict[str, dict[str, float | None]] = Field(description="By layer: min, q25, median, q75, q99, max.")
    chance: ChanceView
    controls: dict[str, float | None] = Field(description="rho of norm-matched random directions, measured.")
    provenance: Source


class FrequencyView(View):
    source: str | None = Field(description="Where the counts come from; null without counts.")
    n_counted: int | None
    entropy: float | None = Field(description="Of the unigram distribution, nats.")
    alignment_quantiles: dict[str, dict[str, float | None]] = Field(description="By layer.")
    controls: dict[str, float | None]
    b_U: dict[str, float | None] = Field(description="softmax(b_U) against the unigram distribution.")
    ranks: list[tuple[int, float]] = Field(description="(rank, p_freq), thinned logarithmically.")
    alignment: dict[str, Series] = Field(description="Of the last layer's `neurons`, and of the random `controls`.")
    rows: list[dict[str, Any]] = Field(description="The most aligned neurons of the last layer, either sign.")
    bias: list[tuple[float, float]] = Field(description="(log p_freq, log softmax(b_U)) of a sample of tokens.")
    provenance: Source


class ReproduceRow(View):
    what: str
    published: float
    found: float
    tolerance: float = Field(description="Relative; 0 asks for equality.")
    holds: bool


class ReproduceView(View):
    """Published values beside what this program finds."""

    model: str
    holds: bool
    rows: list[ReproduceRow]
    provenance: Source


class Walk(View):
    """The last residual stream moved along one singular vector, at one position."""

    direction: int
    singular_value: float
    token: Token
    amount: list[float] = Field(description="In lengths of the centred residual stream.")
    ln_scale: Series
    entropy: Series
    frozen_change: Series = Field(description="Largest change of a log-probability with the LN scale frozen.")
    top1_prob: Series


class WalkView(Walk):
    provenance: Provenance


class NullspaceShares(View):
    """How much of what is written lies in the null space: by neurons of a layer, heads, embeddings, chance."""

    k: int
    layer: int
    rho: Series = Field(description="Of every neuron of the layer.")
    chance: ChanceView
    neurons_above: int = Field(description="Neurons of the layer above the chance maximum.")
    heads: list[list[float | None]] = Field(description="Share of each head's writes in the null space, by layer.")
    embeddings: dict[str, float] = Field(description="The same of token embeddings, each MLP, and random directions.")
    provenance: Source


class NullspaceView(View):
    model: str
    models: list[str]
    state: dict[str, Any]
    spectrum: SpectrumView
    layer: int
    rho: Series = Field(description="Of every neuron of the layer.")
    neurons_above: int
    heads: list[list[float | None]] | None = Field(
        description="Share of each head's writes in the null space, by layer."
    )
    embeddings: dict[str, float]
    walk: Walk | None

    def csv_rows(self) -> list[dict[str, Any]]:
        return [{"index": i, "singular_value": value} for i, value in enumerate(self.spectrum.singular_values)]


class PromptFrequency(View):
    """Per-token entropy and KL(P_freq ‖ P) of a text, and how they go together."""

    tokens: list[Token]
    entropy: Series
    kl_unigram: Series
    correlation: float | None


class TokenShift(View):
    """What ablating a neuron does to the distribution at one token, over the vocabulary."""

    neuron: str
    token: Token
    log_p_freq: list[float]
    change: list[float] = Field(description="Of log P, ablated minus clean, in nats.")
    slope: float | None = Field(description="Nats of change per nat of log frequency, least squares.")
    d_kl_unigram: float | None


class FrequencyOnPrompt(View):
    """Token frequency at work on a prompt."""

    prompt: PromptFrequency
    shift: TokenShift = Field(description="One neuron ablated where it stands out most.")
    provenance: Provenance


class FrequencyPageView(View):
    model: str
    models: list[str]
    state: dict[str, Any]
    summary: FrequencyView
    prompt: PromptFrequency | None
    shift: TokenShift | None

    def csv_rows(self) -> list[dict[str, Any]]:
        return self.summary.rows
