"""The answers of the instrument itself: models, a trace, the effects at one token. HTML, JSON and CSV show these.

Numbers are unrounded, in nats where they are entropies, losses or divergences; null where undefined.
"""

from collections.abc import Sized
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.core.column import Column
from app.core.names import NeuronName

if TYPE_CHECKING:  # commands and the client know the views without torch
    from analysis.controls import Standing

Series = list[float | None]


def along(n: int, **series: Sized | None) -> None:
    """ValueError unless each of the lists has n values, one for each of what they run over; None has nothing to say."""
    for name, values in series.items():
        if values is not None and len(values) != n:
            raise ValueError(f"{name} has {len(values)} values where there are {n}")


class View(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


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
    failed: list[str] = Field([], description="Models that could not be loaded; the others are served.")


class ModelRow(View):
    """One model of the operator's allow-list."""

    key: str
    loaded: bool
    state: Literal["available", "absent", "waiting", "loading", "loaded", "failed"] = Field(
        description="available: on this machine, not loaded; absent: would have to be downloaded."
    )
    error: str | None = Field(None, description="Why loading failed.")
    source: str = Field(description="Hub name, package, or 'local folder'.")
    licence: str | None = Field(None, description="Of the weights, as published; null where it is not known here.")
    bytes_to_download: int | None = Field(None, description="About; null where it is on this machine already.")
    dequantized: str | None = Field(None, description="As in a provenance.")
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
    mean_unknown: float | None = Field(None, description="Share of its tokens that the tokenizer does not know.")
    mean_error: str | None = Field(None, description="Why there are no means.")


class ModelsView(View):
    models: list[ModelRow]


class ModelsPageView(ModelsView):
    """The page: what an administrator may load beside it."""

    may_load: bool
    loadable: list[str]
    offers: dict[str, str] = Field({}, description="Of those, what they would take and under which licence.")
    asked: ModelRow | None = Field(None, description="A model that would have to be downloaded: whether to do that.")


class Token(View):
    position: int
    id: int
    text: str
    special: bool = Field(False, description="It stands for no text: BOS, the end of a turn.")
    role: Literal["system", "user", "assistant"] | None = Field(
        None, description="Whose turn it belongs to, where the tokenizer's chat template wrote the text."
    )


class TurnView(View):
    """A turn of a conversation; an empty one is a field to fill."""

    role: Literal["system", "user", "assistant"]
    content: str = ""


class ConfidenceView(View):
    """How sure the model was over the tokens of an answer."""

    n: int
    mean_entropy: float = Field(description="Of the predictions that its tokens were chosen from, nats.")
    log_prob: float = Field(description="Of the whole answer, nats.")
    perplexity: float = Field(description="exp(-log_prob / n).")
    first_choices: float = Field(description="Share of its tokens that were the most probable.")
    least: int = Field(description="Position of its least probable token.")
    least_prob: float


def in_order(tokens: list[Token]) -> int:
    """How many; ValueError unless their positions count from 0."""
    if [token.position for token in tokens] != list(range(len(tokens))):
        raise ValueError("the tokens' positions do not count from 0")
    return len(tokens)


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
    activations: dict[NeuronName, Series]

    def check_length(self, n_tokens: int) -> None:
        """ValueError unless every array runs over so many positions."""
        named = ("entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank", "top")
        along(n_tokens, **{name: getattr(self, name) for name in named})
        along(n_tokens, **self.activations)


class Provenance(View):
    """Where a number comes from: enough to compute it again."""

    model: str
    source: str
    revision: str | None
    weights_sha256: str
    dequantized: str | None = Field(
        None, description="GGUF file that the weights were dequantised from: quantisation, name, SHA-256; null: none."
    )
    dtype: str
    device: str
    versions: dict[str, str]
    token_ids: list[int]
    rows: list[list[int]] | None = Field(None, description="Every row of token ids, where several were run.")
    prepend_bos: bool | None
    baseline: str | None = Field(description="What an ablated neuron was set to; null where nothing was ablated.")
    unigram: str | None = Field(description="Source of the token counts.")
    folding: dict[str, bool] = Field(description="Switches of the readout.")
    request_sha256: str = Field(description="Hash of the canonical request.")


class TraceView(View):
    tokens: list[Token]
    answer: ConfidenceView | None = Field(
        None, description="Over the assistant's turns, clean; null where the chat template wrote none."
    )
    clean: RunView
    intervened: RunView | None
    ln_scale: float | None = Field(None, description="The constant final LN scale; null: the model's own norm.")
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _runs_over_the_tokens(self) -> Self:
        n = in_order(self.tokens)
        for run in (self.clean, self.intervened):
            if run is not None:
                run.check_length(n)
        return self

    def csv_rows(self) -> list[dict[str, Any]]:
        """The curves, one row a position: position, token and each series of both runs."""
        rows: list[dict[str, Any]] = [token.model_dump() for token in self.tokens]
        for name, run in (("clean", self.clean), ("intervened", self.intervened)):
            if run is None:
                continue
            names = ("entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank")
            series: dict[str, Any] = {key: getattr(run, key) for key in names}
            series |= {f"activation {neuron}": values for neuron, values in run.activations.items()}
            for key, values in series.items():
                for row, value in zip(rows, values or [None] * len(rows), strict=True):
                    row[f"{name}.{key}"] = value
        return rows


class Parts(View):
    """A signed change, intervened minus clean, and its parts (METHODS section 3)."""

    total: Annotated[float | None, Column("")]
    direct: Annotated[float | None, Column("direct", "With the LN scale frozen")] = Field(
        description="With the LN scale frozen; where a norm stands behind the MLP, with its scale frozen too."
    )
    mlp_norm: Annotated[float | None, Column("MLP's norm", "Through the scale of the norm behind the MLP")] = Field(
        None,
        description="Through the scale of the norm behind the MLP; null where there is none. direct + mlp_norm + "
        "ln_mediated = total.",
    )
    ln_mediated: Annotated[float | None, Column("LN-mediated", "Through the scale of the final norm")] = Field(
        description="total - the change with the final LN scale frozen."
    )
    ln_only: Annotated[float | None, Column("LN only", "The changed LN scale alone", page=False)] = Field(
        description="The changed LN scale alone."
    )
    frequency_mediated: Annotated[
        float | None, Column("frequency", "Total minus the change with the frequency component frozen")
    ] = Field(description="total - the change with the frequency component frozen.")


ENTROPY_PARTS = {"total": "d_entropy", "direct": "direct", "ln_mediated": "LN", "frequency_mediated": "frequency"}


class EffectRow(View):
    """One neuron ablated. Its fields are the columns of the table, at every door."""

    neuron: Annotated[NeuronName, Column("Neuron", "layer.index", form="text", shell="neuron")]
    activation: Annotated[float, Column("Activation", "n at this token", shell="activation")]
    baseline: Annotated[float, Column("Baseline", "What it is set to", shell="baseline")]
    d_entropy: Annotated[
        Parts, Column("Δ entropy", "The change of entropy", unit="nats", digits=4, form="signed", parts=ENTROPY_PARTS)
    ]
    d_loss: Annotated[
        Parts,
        Column("Δ loss", "The change of the loss", unit="nats", digits=4, form="signed", parts={"total": "d_loss"}),
    ]
    d_kl_unigram: Annotated[
        Parts,
        Column(
            "Δ KL to unigram",
            "The change of KL(P_freq ‖ P)",
            unit="nats",
            digits=4,
            form="signed",
            parts={"total": "d_kl_unigram"},
        ),
    ]
    ln_scale_before: Annotated[
        float, Column("LN scale before", "The scale of the final norm", shell="ln_scale", page=False)
    ]
    ln_scale_after: Annotated[float, Column("LN scale", "After the ablation", shell="after")]
    top1_changes: Annotated[
        bool, Column("Top token", "Whether the most probable token changes", form="changes", shell="top1 changes")
    ]
    d_reciprocal_rank: Annotated[
        float | None,
        Column("Δ 1/(rank + 1)", "The change of the next token's reciprocal rank", form="signed", shell="d_1/(rank+1)"),
    ] = Field(None, description="Of the token at t + 1; null at the last position.")
    temperature: Annotated[
        float | None,
        Column("Temperature", "The rescaling of the logits that explains most of the change", shell="temperature"),
    ] = Field(description="1/beta of the rescaling that explains most of the change.")
    temperature_share: Annotated[
        float | None, Column("Explained", "How much of the change it explains", digits=0, form="percent", shell="share")
    ] = Field(description="How much of the change it explains: 1 - temperature_kl / kl.")
    kl: Annotated[float | None, Column("KL", "KL(P ‖ P') of the total effect", shell="KL", page=False)] = Field(
        None, description="KL(P || P') of the total effect."
    )
    temperature_kl: Annotated[
        float | None, Column("KL left", "What that rescaling leaves", shell="KL left", page=False)
    ] = Field(None, description="KL(softmax(beta z) || P'): what that rescaling leaves.")


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
    rows_kept: bool = Field(
        True,
        description="Whether what every neuron writes into the logits is kept in memory; where there is no room, "
        "each table makes it anew.",
    )
    provenance: Provenance
    permalink: str | None = None


class StandingView(View):
    """Where a set of neurons stands among its controls (`analysis.controls`)."""

    quantity: str
    value: float
    rank: int = Field(description="1: the largest of all, controls included.")
    of: int
    low: float = Field(description="Smallest among the controls.")
    high: float
    p: float | None = Field(description="Two-sided; null with fewer than 20 controls.")

    @classmethod
    def of_standing(cls, quantity: str, found: "Standing") -> Self:
        return cls(quantity=quantity, **asdict(found))
