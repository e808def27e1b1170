"""A neuron by its weights, the labels it carries and the sweep they rest on: what several subjects show."""

from typing import Literal

from pydantic import Field

from app.core.view import View


class Source(View):
    """Where numbers that follow from the weights alone come from."""

    model: str
    source: str
    revision: str | None
    weights_sha256: str
    dequantized: str | None = Field(None, description="GGUF file that the weights were dequantised from; null: none.")
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
    holds: bool | None = Field(
        description="null: nothing to judge by (no sweep, a figure that is unknown or unreliable, no token counts). In "
        "a neuron that a sweep has measured this counts as not holding."
    )
    required: bool


class LabelView(View):
    name: Literal["entropy", "token-frequency", "prediction", "suppression", "partition"]
    holds: bool
    suggested: bool = Field(description="Whether the weights alone say so; a sweep then decides (`holds`).")
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


class SpeakingSweep(View):
    """A finished sweep of the model's weights over its last layer."""

    id: str
    name: str = Field("", description="As somebody called it, else by what it holds.")
    source: str = Field(description="The text it was made over.")
    rows: int
    tokens: int = Field(description="Kept tokens, over which it averages.")
    neurons: int | None = Field(None, description="How many of the layer it has measured; null: all.")
    baseline: str
    baseline_text: str = Field(description="The same in words: a sweep's means are over its own text.")
    dtype: str
    fits: bool = Field(description="Whether it may speak without being chosen: the rules' baseline, this precision.")


class EvidenceSource(View):
    """Which sweep the causal columns and the labels rest on: the largest that fits, or the one that was chosen."""

    sweep: SpeakingSweep | None = Field(description="null: none; labels rest on the weights only.")
    chosen: bool = Field(description="Whether the request named it (`sweep`).")
    choices: list[SpeakingSweep] = Field(description="Those that can be named, the largest first.")

    @property
    def named(self) -> str | None:
        """What keeps the choice in an address; None where nothing was chosen."""
        return (self.sweep.id if self.sweep else "none") if self.chosen else None


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
    v_score: float | None = Field(
        description="1 / (1 + ‖w W_U‖ / ‖w‖), w W_U centred over the vocabulary (Zahrivyi 2026): near 1 where a write "
        "moves no logit."
    )
    skew: float | None
    kurtosis: float | None = Field(description="Pearson: a normal distribution has 3.")
    rho: float | None = Field(
        description="Length of the write direction in the null space over its whole length; the share of its square "
        "is rho²."
    )
    rho_share: float | None = Field(description="The same for a null space of 1 % of d_model (`null_space.k_share`).")
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


EVIDENCE = tuple(name for name in SweepEvidence.model_fields if name != "intervals")


class NullSpace(View):
    """Where the null space begins, how clearly, and how much of it is exactly null."""

    knee: int | None
    k_share: int = Field(description="1 % of d_model, the other convention for k; it stands beside the knee's.")
    fall: float | None = Field(description="S[knee] / S[knee + 1]; null without a knee, and where it falls to zero.")
    weak: bool = Field(description="A fall that is less than clear: the rule takes it, other k are worth a look.")
    exact: int = Field(description="Directions that are null to the last digit; k is never less.")
    built_in: int = Field(description="Those of them that centring does not explain: no training made them.")
    says: str = Field(description="The same in words.")
