"""The answers of the instrument itself: models, a trace, the effects at one token. HTML, JSON and CSV show these.

Numbers are unrounded, in nats where they are entropies, losses or divergences; null where undefined.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Series = list[float | None]


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorBody(View):
    code: str
    message: str
    hint: str | None = None


class ErrorView(View):
    """The shape of every error."""

    error: ErrorBody


# What any call may answer instead of its result; the OpenAPI document shows them at every operation.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorView, "description": description}
    for status, description in {
        400: "The body is not what its headers say.",
        401: "No valid identity where one is needed.",
        403: "Refused for this person, origin or host name.",
        404: "There is no such model, neuron or result.",
        409: "Not in this state: a mean that is still being computed, for example.",
        413: "It can never fit; the message has both numbers.",
        422: "The request cannot be carried out as it stands.",
        429: "Too much at once; see Retry-After.",
        503: "Not now: loading, out of memory, out of time; see Retry-After.",
    }.items()
}


class Health(View):
    status: Literal["ok"] = "ok"


class Ready(View):
    ready: bool
    models: dict[str, str] = Field(description="State of each model named at start.")
    waiting_for: list[str] = Field([], description="What is not ready yet.")


class ModelRow(View):
    """One model of the operator's allow-list."""

    key: str
    loaded: bool
    state: Literal["available", "absent", "waiting", "loading", "loaded", "failed"] = Field(
        description="available: on this machine, not loaded; absent: would have to be downloaded."
    )
    error: str | None = Field(None, description="Why loading failed.")
    source: str = Field(description="Hub name, or 'local folder'.")
    architecture: str | None
    d_model: int | None
    n_layers: int | None
    n_heads: int | None
    d_mlp: int | None
    d_vocab: int | None
    n_ctx: int | None
    norm: Literal["LN", "RMS"] | None
    device: str | None = None
    dtype: str
    bytes_on_disk: int | None
    bytes_needed: int | None = Field(description="Memory that loading takes, estimated from the weights' header.")
    revision: str | None = Field(None, description="Commit of a hub model that this machine has recorded.")
    weights_sha256: str | None = Field(description="null until loaded.")
    max_tokens: int | None = Field(None, description="Longest prompt accepted, BOS included.")
    unigram: bool | None = Field(None, description="Whether token counts are known.")
    mean: Literal["ready", "computing", "waiting", "failed", "none"] = Field(
        "none", description="State of the reference means, the default baseline."
    )
    mean_progress: float | None = Field(None, description="0 to 1 while the means are being computed.")
    mean_source: str | None = None


class ModelsView(View):
    models: list[ModelRow]


class ModelsPageView(ModelsView):
    """The page: what an administrator may load beside it."""

    may_load: bool
    loadable: list[str]


class Token(View):
    position: int
    id: int
    text: str


class TokensView(View):
    """A prompt cut into tokens: what the live count shows."""

    n_tokens: int
    max_tokens: int
    tokens: list[Token]


class NextToken(View):
    id: int
    text: str
    prob: float
    logprob: float


class RunView(View):
    """One run of a prompt. Arrays run over positions; at t they describe the distribution predicted at t."""

    entropy: Series
    loss: Series = Field(description="Of the token at t + 1; null at the last position.")
    ln_scale: Series
    kl_unigram: Series | None = Field(description="KL(P_freq || P); null without token counts.")
    top1_prob: Series
    rank: list[int | None] = Field(description="Tokens with a strictly greater logit than the token at t + 1.")
    top: list[list[NextToken]]
    activations: dict[str, Series]


class Provenance(View):
    """Where a number comes from: enough to compute it again."""

    model: str
    source: str
    revision: str | None
    weights_sha256: str
    dtype: str
    device: str
    versions: dict[str, str]
    token_ids: list[int]
    prepend_bos: bool | None
    baseline: str | None = Field(description="What an ablated neuron was set to; null where nothing was ablated.")
    unigram: str | None = Field(description="Source of the token counts.")
    folding: dict[str, bool] = Field(description="Switches of the readout.")
    request_sha256: str = Field(description="Hash of the canonical request.")


class TraceView(View):
    tokens: list[Token]
    clean: RunView
    intervened: RunView | None
    ln_scale: float | None = Field(None, description="The constant final LN scale; null: the model's own norm.")
    provenance: Provenance
    permalink: str | None = None


class Parts(View):
    """A signed change, intervened minus clean, and its parts (METHODS section 3)."""

    total: float | None
    direct: float | None = Field(description="With the LN scale frozen.")
    ln_mediated: float | None = Field(description="total - direct.")
    ln_only: float | None = Field(description="The changed LN scale alone.")
    frequency_mediated: float | None = Field(description="total - the change with the frequency component frozen.")


class EffectRow(View):
    neuron: str
    activation: float
    baseline: float
    d_entropy: Parts
    d_loss: Parts
    d_kl_unigram: Parts
    ln_scale_before: float
    ln_scale_after: float
    top1_changes: bool
    temperature: float | None = Field(description="1/beta of the rescaling that explains most of the change.")
    temperature_share: float | None = Field(description="How much of the change it explains: 1 - temperature_kl / kl.")
    kl: float | None = Field(None, description="KL(P || P') of the total effect.")
    temperature_kl: float | None = Field(None, description="KL(softmax(beta z) || P'): what that rescaling leaves.")


class PositionView(View):
    """The clean run at the ablated position."""

    position: int
    token: Token
    next_token: Token | None
    entropy: float | None
    loss: float | None
    ln_scale: float | None
    kl_unigram: float | None
    top1_prob: float | None
    rank: int | None


class EffectsView(View):
    total: int = Field(description="Rows that pass the filters.")
    rows: list[EffectRow]
    clean: PositionView
    ln_scale: float | None = Field(None, description="The constant final LN scale; null: the model's own norm.")
    provenance: Provenance
    permalink: str | None = None
