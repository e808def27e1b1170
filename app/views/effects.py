"""The answers of the effects pages. Nats; null where undefined; changes are intervened minus clean."""

from typing import Any, Literal

from pydantic import Field

from app.views.core import Parts, PositionView, Provenance, Series, Token, View


class HeatRow(View):
    """One neuron: a value at each position, and their summary over the positions computed so far."""

    neuron: str
    mean: float | None
    mean_abs: float | None
    max_abs: float | None
    values: Series


class HeatmapView(View):
    tokens: list[Token]
    metric: str
    part: str
    total: int = Field(description="Neurons computed; rows holds the first of them in the order asked for.")
    rows: list[HeatRow]
    done: int = Field(description="Cells computed.")
    cells: int = Field(description="Cells in all: tokens times neurons.")
    ln_scale: float | None = Field(description="The constant final LN scale; null: the model's own norm.")
    provenance: Provenance
    permalink: str | None = None

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

    neuron: str
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

    neuron: str
    activation: float
    mean: float | None
    low: float
    high: float


class DoseView(View):
    rows: list[DoseRow]
    neurons: list[Marked]
    clean: PositionView
    ln_scale: float | None
    provenance: Provenance
    permalink: str | None = None


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
    clean: PositionView
    provenance: Provenance
    permalink: str | None = None
