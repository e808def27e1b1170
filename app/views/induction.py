"""The answers of the induction lab. Nats; null where undefined; arrays run over positions unless they say otherwise."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import Field

from app.views.core import Provenance, Series, Token, View

Rows = Iterator[dict[str, Any]]


class CurveView(View):
    """Mean over rows, and the 10th and 90th percentile."""

    mean: Series
    low: Series
    high: Series


def _at(name: str, curve: CurveView, index: int) -> dict[str, float | None]:
    """A curve's three numbers as columns."""
    return {f"{name}.{end}": getattr(curve, end)[index] for end in ("mean", "low", "high")}


_NOWHERE = CurveView(mean=[None], low=[None], high=[None])


def _rows(found: Iterable[View], *without: str) -> Rows:
    return (row.model_dump(mode="json", exclude=set(without)) for row in found)


class RepeatView(View):
    """How the rows are laid out. Positions count from 0, BOS included."""

    kind: str
    seed: int
    rows: int
    length: int = Field(description="Tokens of one copy.")
    copies: int
    separator: int = Field(description="Tokens between two copies.")
    starts: list[int] = Field(description="Position at which each copy begins.")
    n_positions: int
    note: str | None = Field(None, description="What had to be changed to fit the model.")
    tokens: list[Token] = Field(description="The first row.")
    changed: list[int] = Field(description="Positions of the first row at which the second copy was corrupted.")
    source: str = Field(description="Where the text comes from.")


class HalvesView(View):
    """A metric's mean over the first copy and over the second."""

    first: float | None
    second: float | None


class DifferenceRow(View):
    """One last-layer neuron; weighted = (second - first) norm."""

    neuron: str
    first: float | None = Field(description="Mean activation over the first copy.")
    second: float | None
    weighted: float | None
    natural: float | None = Field(description="The same on natural repeats; null where the text has none.")
    norm: float | None
    rho: float | None = Field(description="Share of the write direction in the null space.")
    labels: list[str] | None = Field(description="What the atlas calls it; null until the atlas has been computed.")


class ClipRow(View):
    """One neuron's rule."""

    neuron: str
    direction: Literal["at most", "at least"] = Field(description="at most: it rises on the repeat.")
    m: float = Field(description="Mean activation over the first copy, pooled over rows.")


class ControlRow(View):
    """One norm-matched random set; means over the repeats."""

    neurons: list[str]
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
    control_ratio: CurveView | None = Field(description="Over control sets, at the repeats' positions.")
    control_positions: list[int]
    points: list[PointView]


class InductionView(View):
    repeat: RepeatView
    curves: dict[str, CurveView]
    activations: dict[str, CurveView]
    halves: dict[str, HalvesView]
    total: int = Field(description="Neurons in the ranking.")
    ranking: list[DifferenceRow]
    passages: int = Field(description="Natural repeats behind the column natural.")
    clip: ClipView | None
    provenance: Provenance
    permalink: str | None = None

    def tables(self) -> dict[str, Rows]:
        clip = self.clip
        return {
            "ranking": _rows(self.ranking),
            "controls": _rows(clip.controls if clip else ()),
            "tokens": _rows(clip.points if clip else ()),
        }

    def csv_rows(self) -> Rows:
        """One row a position, with every curve."""
        named = {**self.curves, **{f"activation {name}": curve for name, curve in self.activations.items()}}
        if self.clip is not None:
            for name in ("ratio", "ratio_frozen", "loss_change", "loss_change_frozen"):
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
                row |= _at(name, curve, position)
            if controls is not None:
                row |= controls.get(position, _at("clip.control_ratio", _NOWHERE, 0))
            yield row

    def _controls(self) -> dict[int, dict[str, float | None]] | None:
        """The band of random sets, known on the repeats only."""
        clip = self.clip
        if clip is None or clip.control_ratio is None:
            return None
        band = clip.control_ratio
        return {where: _at("clip.control_ratio", band, index) for index, where in enumerate(clip.control_positions)}


class HeadRow(View):
    """Mean attention of one head from the repeat to one kind of key."""

    head: str
    layer: int
    induction: float | None
    duplicate: float | None
    previous: float | None
    first: float | None


class PatternView(View):
    head: str
    tokens: list[Token]
    attention: list[list[float]] = Field(description="Rows are queries, columns keys.")
    starts: list[int]
    length: int

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

    def csv_rows(self) -> Rows:
        return _rows(self.rows)

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
    neuron: str
    repeat: RepeatView
    rows: list[PartRow] = Field(description="Largest absolute change first; the parts sum to the pre-activation.")
    pre: CurveView = Field(description="The pre-activation by position.")
    residual: float = Field(description="Largest absolute difference between the parts' sum and the pre-activation.")
    provenance: Provenance
    permalink: str | None = None

    @property
    def heads(self) -> list[PartRow]:
        """The rows that are heads, layer.head."""
        return [row for row in self.rows if "." in row.component]

    def csv_rows(self) -> Rows:
        return _rows(self.rows, "by_position")

    def tables(self) -> dict[str, Rows]:
        return {"positions": self._by_position()}

    def _by_position(self) -> Rows:
        """One row a position: the pre-activation and each component's part of it."""
        for position in range(self.repeat.n_positions):
            parts = {row.component: row.by_position[position] for row in self.rows}
            yield {"position": position, **_at("pre", self.pre, position), **parts}


class GroupRow(View):
    """Some heads ablated together. Changes are ablated minus clean at the query, averaged; by neuron."""

    role: Literal["one", "all", "random_one", "random_all"]
    heads: list[str]
    activation: dict[str, float | None]
    d_entropy: float | None
    d_ln_scale: float | None
    by_query: dict[str, Series] = Field(description="Mean change of each neuron's activation at each query.")


class HeadAblationView(View):
    mode: Literal["bos", "mean", "zero"]
    neurons: list[str]
    repeat: RepeatView
    queries: list[int]
    clean: dict[str, CurveView] = Field(description="Clean activation of each neuron at the queries.")
    rows: list[GroupRow]
    provenance: Provenance
    permalink: str | None = None

    def csv_rows(self) -> Rows:
        return _rows(self.rows, "by_query")

    def tables(self) -> dict[str, Rows]:
        return {"queries": self._by_query()}

    def _by_query(self) -> Rows:
        """One row a query: clean activations, and their change in every group of heads."""
        for index, query in enumerate(self.queries):
            row: dict[str, Any] = {"query": query}
            for neuron in self.neurons:
                row |= _at(f"clean {neuron}", self.clean[neuron], index)
                row |= {f"{g.role} {' '.join(g.heads)}: d {neuron}": g.by_query[neuron][index] for g in self.rows}
            yield row


class AblationJobView(View):
    """Heads taken out as a job. state: queued, running, cancelling, finished, failed or cancelled."""

    id: str
    model: str
    state: str
    stage: str | None
    progress: float | None = Field(description="0 to 1.")
    eta: float | None = Field(description="Seconds left.")
    queue: int | None = Field(description="Jobs that run before this one.")
    message: str | None
    result: HeadAblationView | None


class PassageView(View):
    """A natural repeat: the passage as text, and where the two occurrences begin."""

    text: str
    gram: str
    first: int
    second: int
    continued: bool = Field(description="Whether the second occurrence goes on as the first did.")


class AlignedView(View):
    """Curves over offsets 0..6: A0..A5 and then B (first) or X (second)."""

    first: dict[str, CurveView]
    second: dict[str, CurveView]


class NaturalView(View):
    source: str
    searched: int = Field(description="Rows of text that were searched.")
    passages: list[PassageView]
    clean: AlignedView | None
    clipped: AlignedView | None
    rules: list[ClipRow]
    provenance: Provenance
    permalink: str | None = None

    def tables(self) -> dict[str, Rows]:
        return {"passages": _rows(self.passages)}

    def csv_rows(self) -> Rows:
        """One row an offset, with every curve."""
        runs = {"clean": self.clean, "clipped": self.clipped}
        for offset in range(7 if self.clean else 0):
            row: dict[str, Any] = {"offset": offset}
            for run, aligned in runs.items():
                for occurrence in ("first", "second"):
                    curves = getattr(aligned, occurrence) if aligned else {}
                    for name, curve in curves.items():
                        row |= _at(f"{run}.{occurrence}.{name}", curve, offset)
            yield row
