"""One neuron: by its weights, on a text, on the sample, and with its activation held fixed."""

from typing import Any

from pydantic import Field, SerializeAsAny

from app.core.notes_view import NoteView
from app.core.view import ErrorBody, Provenance, Series, Token, View
from app.core.weights_view import ChanceView, EffectToken, EvidenceSource, NeuronRow, NullSpace, Source


class Neighbour(View):
    neuron: str
    cosine: float | None


class Histogram(View):
    """Counts between consecutive edges."""

    edges: list[float]
    counts: list[int]


class NeuronView(View):
    """One neuron, by its weights."""

    sentence: str = Field("", description="In one sentence, from the evidence that there is (`app.neuron.summary`).")
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
    null_space: NullSpace
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
    evidence: EvidenceSource
    provenance: Source


class GateCase(View):
    """One of the four sign cases of a gated MLP: gate and input positive or negative."""

    gate: str
    input: str
    share: float = Field(description="Of the positions of this text.")
    mean_activation: float | None


class ClampPoint(View):
    """Means over the text with the neuron's activation held at `value` everywhere (null: left alone)."""

    value: float | None
    ln_scale: float
    entropy: float
    loss: float | None
    rank: float | None


class Live(View):
    """The neuron on one text."""

    tokens: list[Token]
    skip: int = Field(description="1 where token 0 is BOS: it is left out of the scales and means.")
    activation: Series
    d_entropy: Series | None = Field(description="Of ablating it at each token alone; last layer only.")
    baseline: str | None
    clamp: list[ClampPoint]
    gate_cases: list[GateCase] | None
    text: str
    provenance: Provenance

    @property
    def most_active(self) -> list[int]:
        """A few positions, the largest activation in size first, BOS aside."""
        sizes = {at: abs(value or 0.0) for at, value in enumerate(self.activation) if at >= self.skip}
        return sorted(sizes, key=lambda at: -sizes[at])[:8]


class Moment(View):
    """One token of the sample in its context."""

    before: str
    token: str
    after: str
    activation: float
    d_entropy: float | None


class Sample(View):
    """Where in the sample the neuron is most active, and where ablating it changes the entropy most."""

    source: str
    n_tokens: int
    baseline: str | None
    activations: Histogram | None = Field(None, description="Over all its tokens but BOS and attention sinks.")
    mean: float | None = Field(None, description="Activation, over the same tokens.")
    most_active: list[Moment]
    least_active: list[Moment]
    raises_entropy: list[Moment] = Field(description="Ablating it here raises the entropy most.")
    lowers_entropy: list[Moment]
    provenance: Source


class Reading(View):
    """How far a sample is read that a page shows so far."""

    done: int = Field(description="Rows.")
    total: int


class NeuronPage(View):
    model: str
    models: list[str]
    state: dict[str, Any]
    neuron: NeuronView
    live: Live | None = None
    sample: Sample | None = None
    reading: Reading | None = Field(None, description="Where `sample` is over the rows that were read so far.")
    circuit: SerializeAsAny[View] | None = Field(None, description="What drives it, as the question circuit tells it.")
    python_circuit: str = ""
    problem: ErrorBody | None = Field(None, description="Why there is no `live` or `sample`, where it is refused.")
    notes: list[NoteView]

    def csv_rows(self) -> list[dict[str, Any]]:
        pairs = zip(self.neuron.singular_values, self.neuron.null_space_cosines, strict=True)
        return [{"index": i, "singular_value": s, "abs_cosine": c} for i, (s, c) in enumerate(pairs)]
