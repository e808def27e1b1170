"""The answers of the effects pages. Nats; null where undefined; changes are intervened minus clean."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from app.core.names import NeuronName
from app.core.view import NextToken, Parts, PositionView, Provenance, Series, Token, View, along, in_order
from app.core.weights_view import NullSpace
from app.effects.request import HeatMetric, HeatPart


class HeatRow(View):
    """One neuron: a value at each position, and their summary over the positions computed so far."""

    neuron: str
    mean: float | None
    mean_abs: float | None
    max_abs: float | None
    values: Series


class HeatmapView(View):
    tokens: list[Token]
    metric: HeatMetric
    part: HeatPart
    total: int = Field(description="Neurons computed; rows holds the first of them in the order asked for.")
    rows: list[HeatRow]
    done: int = Field(description="Cells computed.")
    cells: int = Field(description="Cells in all: tokens times neurons.")
    ln_scale: float | None = Field(description="The constant final LN scale; null: the model's own norm.")
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _a_value_a_token(self) -> Self:
        n = in_order(self.tokens)
        for row in self.rows:
            along(n, values=row.values)
        return self

    @property
    def finished(self) -> bool:
        return self.done == self.cells

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a neuron, one column a position."""
        return [
            {**row.model_dump(exclude={"values"}), **{str(t): value for t, value in enumerate(row.values)}}
            for row in self.rows
        ]


class SetEffect(View):
    d_entropy: Parts
    d_loss: Parts
    d_kl_unigram: Parts


class SingleRow(SetEffect):
    """One neuron of the set, ablated alone."""

    neuron: NeuronName
    activation: float
    baseline: float
    ln_scale_after: float
    top1_changes: bool


class JointView(View):
    """A set together, the sum of its neurons alone, and the difference of the two: their interaction."""

    rows: list[SingleRow]
    joint: SetEffect
    sum: SetEffect
    interaction: SetEffect
    kl: float = Field(description="KL(P || P') of the set.")
    ln_scale_after: float
    top1_changes: bool
    d_reciprocal_rank: float | None
    clean: PositionView
    ln_scale: float | None
    provenance: Provenance
    permalink: str | None = None


class DoseRow(View):
    """The activations of the set clamped to ``dose``; frozen: with the LN scale at its clean value."""

    dose: float
    entropy: float | None
    loss: float | None
    ln_scale: float | None
    top1_prob: float | None
    top1: Token
    frozen_entropy: float | None
    frozen_loss: float | None


class Marked(View):
    """Where a neuron of the set stands: its activation at the token, its reference mean, its range in the prompt."""

    neuron: NeuronName
    activation: float
    mean: float | None
    low: float
    high: float


class DoseView(View):
    rows: list[DoseRow] = Field(min_length=1)
    neurons: list[Marked]
    clean: PositionView
    ln_scale: float | None
    provenance: Provenance
    permalink: str | None = None


class LensLayerView(View):
    """One reading. Arrays run over positions; nats."""

    name: str = Field(description="embed, L0.attn, L0.mlp, ...; the last one is the model's own output.")
    entropy: Series
    loss: Series = Field(description="Of the token at t + 1; null at the last position.")
    kl_final: Series = Field(description="KL(P_last || P).")
    ln_scale: Series
    top: list[list[NextToken]]


class LensView(View):
    tokens: list[Token]
    scale: Literal["own", "frozen"]
    of: Literal["stream", "block"]
    layers: list[LensLayerView]
    sentence: str = Field("", description="Where along the depth certainty appears, and what takes it back.")
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _a_reading_a_token(self) -> Self:
        n = in_order(self.tokens)
        for layer in self.layers:
            along(n, **{name: getattr(layer, name) for name in ("entropy", "loss", "kl_final", "ln_scale", "top")})
            if not all(layer.top):
                raise ValueError("top lists no token")
        return self

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a layer and position."""
        names = ("entropy", "loss", "kl_final", "ln_scale")
        return [
            {"layer": layer.name, "position": token.position, "token": token.text}
            | {name: getattr(layer, name)[token.position] for name in names}
            | {"top": layer.top[token.position][0].text, "prob": layer.top[token.position][0].prob}
            for layer in self.layers
            for token in self.tokens
        ]


class LedgerRow(View):
    """One component's share of s², and how it divides between the null space of W_U and the rest."""

    component: str
    kind: Literal["embedding", "head", "mlp", "biases", "neuron"]
    layer: int | None
    share: float
    null: float
    row: float


class LedgerView(View):
    """share_j = c_j·xc/d; the rows and eps sum to ``total``."""

    rows: list[LedgerRow]
    neurons: list[LedgerRow] = Field(description="The largest parts of the last MLP's row.")
    total: float = Field(description="s², the squared LN scale.")
    eps: float
    remainder: float = Field(description="total - eps - sum of the rows: rounding.")
    null_total: float = Field(description="The part of s² in the null space.")
    k: int
    null_space: NullSpace
    clean: PositionView
    provenance: Provenance
    permalink: str | None = None
