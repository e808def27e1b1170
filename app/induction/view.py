"""The answers of the induction lab. Nats; null where undefined; arrays run over positions unless they say otherwise."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from app.core.names import HeadName, NeuronName
from app.core.view import Provenance, Series, StandingView, Token, View, along
from app.induction.repeat_view import NOWHERE, Rows, at_position, check_curves, flat
from app.induction.repeat_view import CurveView as CurveView
from app.induction.repeat_view import RepeatView as RepeatView


class HalvesView(View):
    """A metric's mean over the first copy and over the second."""

    first: float | None
    second: float | None


class DifferenceRow(View):
    """One last-layer neuron; weighted = (second - first) norm."""

    neuron: NeuronName
    first: float | None = Field(description="Mean activation over the first copy.")
    second: float | None
    weighted: float | None
    natural: float | None = Field(description="The same on natural repeats; null where the text has none.")
    norm: float | None
    rho: float | None = Field(description="Length of the write direction in the null space over its whole length.")
    logit_var: float | None = Field(None, description="LogitVar; null until the atlas has been computed.")
    labels: list[str] | None = Field(description="What the atlas calls it; null until the atlas has been computed.")


class ClipRow(View):
    """One neuron's rule."""

    neuron: NeuronName
    direction: Literal["at most", "at least"] = Field(description="at most: it rises on the repeat.")
    m: float = Field(description="Mean activation over the first copy, pooled over rows.")


class ControlRow(View):
    """The set's clips written along random directions of the same norms; means over the repeats."""

    neurons: list[NeuronName] = Field(
        description="Empty: a control is made of directions. Answers of earlier versions name neurons."
    )
    norms: list[float] = Field(default_factory=list, description="Of its directions, which are the clipped neurons'.")
    ratio: float | None
    loss_change: float | None


class PointView(View):
    """One token of a repeat: loss before, its change, and 1 / (rank + 1) before."""

    row: int
    position: int
    loss: float | None
    change: float | None
    reciprocal_rank: float | None


class ClipView(View):
    """Clipped ablation of a set; frozen: at the clean LN scale. repeat_...: means over the repeats."""

    rules: list[ClipRow]
    ratio: CurveView = Field(description="H_post / H.")
    ratio_frozen: CurveView
    loss_change: CurveView
    loss_change_frozen: CurveView
    repeat_ratio: float | None
    repeat_ratio_frozen: float | None
    repeat_loss_change: float | None
    repeat_loss_change_frozen: float | None
    controls: list[ControlRow]
    standings: list[StandingView] = Field(default_factory=list, description="The set among its controls.")
    control_ratio: CurveView | None = Field(description="Over control sets, at the repeats' positions.")
    control_positions: list[int]
    points: list[PointView]


CLIP_CURVES = ("ratio", "ratio_frozen", "loss_change", "loss_change_frozen")


class InductionView(View):
    repeat: RepeatView
    curves: dict[str, CurveView]
    activations: dict[str, CurveView]
    halves: dict[str, HalvesView]
    total: int = Field(description="Neurons in the ranking.")
    ranking: list[DifferenceRow] = Field(min_length=1)
    labels_rest_on: str | None = Field(None, description="The weights, or the sweep beside them; null as `labels`.")
    passages: int = Field(description="Natural repeats behind the column natural.")
    clip: ClipView | None
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _runs_over_the_row(self) -> Self:
        n = self.repeat.n_positions
        check_curves(self.curves, n)
        along(n, **self.activations)
        if clip := self.clip:
            along(n, **{name: getattr(clip, name) for name in CLIP_CURVES})
            along(len(clip.control_positions), control_ratio=clip.control_ratio)
        return self

    def tables(self) -> dict[str, Rows]:
        clip = self.clip
        return {
            "ranking": flat(self.ranking),
            "controls": flat(clip.controls if clip else ()),
            "tokens": flat(clip.points if clip else ()),
        }

    def csv_rows(self) -> Rows:
        """One row a position, with every curve."""
        named = {**self.curves, **{f"activation {name}": curve for name, curve in self.activations.items()}}
        if self.clip is not None:
            for name in CLIP_CURVES:
                named[f"clip.{name}"] = getattr(self.clip, name)
        controls = self._controls()
        copy_of = {
            start + offset: number
            for number, start in enumerate(self.repeat.starts, start=1)
            for offset in range(self.repeat.length)
        }
        for position in range(self.repeat.n_positions):
            row: dict[str, Any] = {"position": position, "copy": copy_of.get(position)}
            for name, curve in named.items():
                row |= at_position(name, curve, position)
            if controls is not None:
                row |= controls.get(position, at_position("clip.control_ratio", NOWHERE, 0))
            yield row

    def _controls(self) -> dict[int, dict[str, float | None]] | None:
        """The band of random sets, known on the repeats only."""
        clip = self.clip
        if clip is None or clip.control_ratio is None:
            return None
        band = clip.control_ratio
        return {
            where: at_position("clip.control_ratio", band, index) for index, where in enumerate(clip.control_positions)
        }


class HeadRow(View):
    """Mean attention of one head from the repeat to one kind of key."""

    head: HeadName
    layer: int
    induction: float | None
    duplicate: float | None
    previous: float | None
    first: float | None


class PatternView(View):
    head: HeadName
    tokens: list[Token]
    attention: list[list[float]] = Field(description="Rows are queries, columns keys.")
    starts: list[int] = Field(min_length=2)
    length: int

    @model_validator(mode="after")
    def _tokens_by_tokens(self) -> Self:
        along(len(self.tokens), attention=self.attention)
        for row in self.attention:
            along(len(self.tokens), attention=row)
        return self

    def csv_rows(self) -> Rows:
        """One row a query, one column a key."""
        for token, row in zip(self.tokens, self.attention, strict=True):
            yield {"query": token.position, "token": token.text, **{f"key {k}": value for k, value in enumerate(row)}}


class HeadsView(View):
    rows: list[HeadRow]
    n_layers: int
    n_heads: int
    length: int
    n_rows: int
    seed: int
    note: str | None
    threshold: float
    pattern: PatternView | None
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _a_row_a_head(self) -> Self:
        along(self.n_layers * self.n_heads, rows=self.rows)
        return self

    def csv_rows(self) -> Rows:
        return flat(self.rows)

    def tables(self) -> dict[str, Rows]:
        return {"pattern": self.pattern.csv_rows() if self.pattern else iter(())}


class PartRow(View):
    """One component's share of the pre-activation, averaged over rows."""

    component: str
    first: float | None = Field(description="Mean over the positions of the first copy.")
    second: float | None
    change: float | None = Field(description="second - first")
    on_repeats: float | None = Field(description="Sum over the positions of all repeats.")
    by_position: Series


class AttributionView(View):
    neuron: NeuronName
    repeat: RepeatView
    rows: list[PartRow] = Field(description="Largest absolute change first; the parts sum to the pre-activation.")
    pre: CurveView = Field(description="The pre-activation by position.")
    residual: float = Field(description="Largest absolute difference between the parts' sum and the pre-activation.")
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _runs_over_the_row(self) -> Self:
        along(self.repeat.n_positions, pre=self.pre)
        for row in self.rows:
            along(self.repeat.n_positions, by_position=row.by_position)
        return self

    @property
    def heads(self) -> list[PartRow]:
        """The rows that are heads, layer.head."""
        return [row for row in self.rows if "." in row.component]

    def csv_rows(self) -> Rows:
        return flat(self.rows, "by_position")

    def tables(self) -> dict[str, Rows]:
        return {"positions": self._by_position()}

    def _by_position(self) -> Rows:
        """One row a position: the pre-activation and each component's part of it."""
        for position in range(self.repeat.n_positions):
            parts = {row.component: row.by_position[position] for row in self.rows}
            yield {"position": position, **at_position("pre", self.pre, position), **parts}


class GroupRow(View):
    """Some heads ablated together. Changes are ablated minus clean at the query, averaged; by neuron."""

    role: Literal["one", "all", "random_one", "random_all"]
    heads: list[HeadName]
    activation: dict[NeuronName, float | None]
    d_entropy: float | None
    d_ln_scale: float | None
    by_query: dict[NeuronName, Series] = Field(description="Mean change of each neuron's activation at each query.")


class HeadAblationView(View):
    mode: Literal["bos", "mean", "zero"]
    neurons: list[NeuronName]
    repeat: RepeatView
    queries: list[int]
    clean: dict[NeuronName, CurveView] = Field(description="Clean activation of each neuron at the queries.")
    rows: list[GroupRow]
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _every_neuron_at_every_query(self) -> Self:
        named = set(self.neurons)
        held = [
            self.clean.keys(),
            *(keys for row in self.rows for keys in (row.activation.keys(), row.by_query.keys())),
        ]
        if not self.neurons or any(keys != named for keys in held):
            raise ValueError("clean and rows do not hold the neurons that are named")
        along(len(self.queries), **self.clean)
        for row in self.rows:
            along(len(self.queries), **row.by_query)
        return self

    def csv_rows(self) -> Rows:
        return flat(self.rows, "by_query")

    def tables(self) -> dict[str, Rows]:
        return {"queries": self._by_query()}

    def _by_query(self) -> Rows:
        """One row a query: clean activations, and their change in every group of heads."""
        for index, query in enumerate(self.queries):
            row: dict[str, Any] = {"query": query}
            for neuron in self.neurons:
                row |= at_position(f"clean {neuron}", self.clean[neuron], index)
                row |= {f"{g.role} {' '.join(g.heads)}: d {neuron}": g.by_query[neuron][index] for g in self.rows}
            yield row


class PassageView(View):
    """A natural repeat: the passage as text, and where the two occurrences begin."""

    text: str
    gram: str
    first: int
    second: int
    continued: bool = Field(description="Whether the second occurrence goes on as the first did.")


OFFSETS = 7


class AlignedView(View):
    """Curves over offsets 0..6: A0..A5 and then B (first) or X (second)."""

    first: dict[str, CurveView]
    second: dict[str, CurveView]

    @model_validator(mode="after")
    def _over_the_offsets(self) -> Self:
        if self.first.keys() != self.second.keys():
            raise ValueError("the two occurrences have different curves")
        check_curves(self.first, OFFSETS)
        check_curves(self.second, OFFSETS)
        return self


class NaturalView(View):
    source: str
    searched: int = Field(description="Rows of text that were searched.")
    passages: list[PassageView]
    clean: AlignedView | None
    clipped: AlignedView | None
    rules: list[ClipRow]
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _clipped_beside_clean(self) -> Self:
        if self.clipped is not None and (self.clean is None or self.clipped.first.keys() != self.clean.first.keys()):
            raise ValueError("clipped has other curves than clean")
        return self

    def tables(self) -> dict[str, Rows]:
        return {"passages": flat(self.passages)}

    def csv_rows(self) -> Rows:
        """One row an offset, with every curve."""
        runs = {"clean": self.clean, "clipped": self.clipped}
        for offset in range(OFFSETS if self.clean else 0):
            row: dict[str, Any] = {"offset": offset}
            for run, aligned in runs.items():
                for occurrence in ("first", "second"):
                    curves = getattr(aligned, occurrence) if aligned else {}
                    for name, curve in curves.items():
                        row |= at_position(f"{run}.{occurrence}.{name}", curve, offset)
            yield row
