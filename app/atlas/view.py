"""The atlas: neurons by their weights, the null space, token frequency. HTML, JSON and CSV show these."""

from typing import Any

from pydantic import Field

from app.core.view import ErrorBody, Provenance, Series, Token, View
from app.core.weights_view import EVIDENCE, ChanceView, EvidenceSource, NeuronRow, NullSpace, Source


class NeuronsView(View):
    total: int = Field(description="Neurons that pass the filters.")
    k: int
    knee: int | None
    null_space: NullSpace
    chance: ChanceView
    rows: list[NeuronRow]
    evidence: EvidenceSource
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
    facts: dict[str, Series] = Field({}, description="norm, logit_var and rho where no axis shows them.")
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
    weights_here: bool = Field(True, description="false: the numbers are those that ship; the model is not loaded.")

    def csv_rows(self) -> list[dict[str, Any]]:
        return neuron_rows(self.table)


def neuron_rows(view: NeuronsView) -> list[dict[str, Any]]:
    """Flat rows for CSV and Parquet: label names and tokens joined."""
    found, speaking = [], view.evidence.sweep
    for row in view.rows:
        plain = row.model_dump(exclude={"labels", "raised", "lowered", "sweep"})
        plain["labels"] = " ".join(label.name for label in row.labels if label.holds)
        plain["raised"] = "|".join(token.text for token in row.raised)
        plain["lowered"] = "|".join(token.text for token in row.lowered)
        evidence = row.sweep.model_dump(exclude={"intervals"}) if row.sweep else dict.fromkeys(EVIDENCE)
        found.append(plain | evidence | {"evidence_sweep": speaking.id if speaking and row.sweep else None})
    return found


class SpectrumView(View):
    singular_values: list[float]
    knee: int | None
    knee_ratio: float | None = Field(description="S[knee] / S[knee + 1].")
    null_space: NullSpace
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

    tokens: list[Token] = Field([], description="The whole text.")
    entropies: Series = Field([], description="Of the prediction at each token, unmoved.")
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
    null_space: NullSpace
    layer: int
    rho: Series = Field(description="Of every neuron of the layer, a ratio of lengths.")
    chance: ChanceView
    neurons_above: int = Field(description="Neurons of the layer above the chance maximum.")
    heads: list[list[float | None]] = Field(
        description="Share of the squared length of each head's writes in the null space, by layer."
    )
    embeddings: dict[str, float] = Field(
        description="The same share of token embeddings, each MLP, and random directions."
    )
    provenance: Source


class NullspaceView(View):
    model: str
    models: list[str]
    state: dict[str, Any]
    spectrum: SpectrumView
    layer: int
    rho: Series = Field(description="Of every neuron of the layer, a ratio of lengths.")
    neurons_above: int
    heads: list[list[float | None]] | None = Field(
        description="Share of the squared length of each head's writes in the null space, by layer."
    )
    embeddings: dict[str, float]
    walk: Walk | None = None
    problem: ErrorBody | None = Field(None, description="Why there is no `walk`, where it is refused.")

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
    shift: TokenShift = Field(description="One neuron ablated at one token, by default where it stands out most.")
    provenance: Provenance


class FrequencyPageView(View):
    model: str
    models: list[str]
    state: dict[str, Any]
    summary: FrequencyView
    prompt: PromptFrequency | None = None
    shift: TokenShift | None = None
    problem: ErrorBody | None = Field(None, description="Why there is no `prompt` and `shift`, where they are refused.")

    def csv_rows(self) -> list[dict[str, Any]]:
        return self.summary.rows
