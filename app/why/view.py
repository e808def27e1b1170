"""A prediction taken apart, as every door shows it."""

from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from app.core.view import PositionView, Provenance, Series, Token, View, along, in_order
from app.why.request import BaselineText, TargetName

SAME = 1e-9
"""Nats: what differs by less is the same, but for rounding."""
PartKind = Literal["embedding", "position", "head", "mlp", "biases", "neuron", "rest"]


class PartView(View):
    """One component's share of the difference, in nats."""

    component: str = Field(description="embed, pos, L2H3, L0.mlp, bias; a neuron, 3.62; or rest of L3.mlp.")
    kind: PartKind
    layer: int | None
    total: float
    direct: float = Field(description="Through the logits, the LN scale held.")
    ln_scale: float = Field(description="Through the LN scale alone.")
    ablation: float | None = Field(
        None, description="Clean less mean-ablated at this token, by a real pass in which all that follows runs anew."
    )

    other: float | None = Field(None, description="The whole share against the other baseline of `baselines`.")

    def followed(self, target: TargetName) -> bool:
        """Whether there is an upstream to go to: of a token's log-probability a neuron's alone."""
        return self.kind == "neuron" or (self.kind in ("head", "mlp") and target != "log_prob")


def largest(parts: list[PartView], most: int) -> list[PartView]:
    """The largest parts in their order, before them all others as one."""
    if len(parts) <= most:
        return parts
    kept = sorted(range(len(parts)), key=lambda i: -abs(parts[i].total))[:most]
    others = [part for i, part in enumerate(parts) if i not in kept]
    summed = PartView(
        component=f"{len(others)} others",
        kind="rest",
        layer=None,
        total=sum(part.total for part in others),
        direct=sum(part.direct for part in others),
        ln_scale=sum(part.ln_scale for part in others),
    )
    return [summed, *(parts[i] for i in sorted(kept))]


class UpstreamBar(NamedTuple):
    """A part's two halves as left edge and width, in percent of the widest; zero: where nothing is."""

    part: PartView
    direct: tuple[float, float]
    ln_scale: tuple[float, float]
    zero: float


class BaselineView(View):
    """What the prediction is compared with."""

    name: BaselineText
    text: str = Field(description="The text that the means were taken over.")
    tokens: int
    value: float = Field(description="The target at the mean stream.")


class SharesView(BaselineView):
    """What the whole split comes to against it."""

    direct: float = Field(description="Sum of all direct shares.")
    ln_scale: float = Field(description="Sum of all shares through the LN scale.")
    completeness_error: float = Field(description="Both sums less the difference of the two values.")


class WhyView(View):
    """``value`` - ``baseline_value`` split exactly over the parts (docs/methods.md); nats."""

    clean: PositionView = Field(description="The pass that is split, at its token: undisturbed, or as `under` says.")
    under: list[str] = Field([], description="What was done to the pass, as compact interventions.")
    ln_scale: float | None = Field(None, description="The constant that the final LN scale was held at.")
    undisturbed: float | None = Field(None, description="The target in the undisturbed pass, where another is split.")
    target: TargetName
    token: Token | None = Field(description="The token that the target speaks of; null for entropy.")
    value: float
    baseline_value: float
    completeness_error: float = Field(
        description="Sum of the parts less the difference: of the integral, and of the sums that the model rounds."
    )
    nodes: int = Field(description="Gauss-Legendre nodes of the path integral.")
    eps: float = Field(0.0, description="What the final norm adds under its root.")
    parts: list[PartView] = Field(description="In the order of the forward pass; they sum to the difference.")
    baselines: list[SharesView] = Field(description="Both baselines: the shares change with it, the value never.")
    rank_correlation: float | None = Field(
        None,
        description="Spearman's, between the shares and the ablations; null unless they were asked for, and where "
        "either are all the same.",
    )
    sentence: str
    provenance: Provenance
    permalink: str | None = None

    def largest(self, most: int) -> list[PartView]:
        return largest(self.parts, most)

    @property
    def at_baseline(self) -> bool:
        """Whether nothing is to be explained."""
        return abs(self.value - self.baseline_value) < SAME

    @property
    def ablated(self) -> bool:
        """Whether ablations stand beside the shares."""
        return any(part.ablation is not None for part in self.parts)

    @property
    def halves(self) -> tuple[float, float]:
        """The sums of all direct shares and of all through the scale."""
        return sum(part.direct for part in self.parts), sum(part.ln_scale for part in self.parts)

    def upstream(self, most: int) -> list[UpstreamBar]:
        """The largest parts that can be followed, as two bars one behind the other, all on one scale."""
        followed = [part for part in self.parts if part.followed(self.target)]
        listed = sorted(followed, key=lambda part: -abs(part.total))[:most]
        ends = [0.0, *(end for part in listed for end in (part.direct, part.total))]
        low, span = min(ends), (max(ends) - min(ends)) or 1.0

        def bar(start: float, end: float) -> tuple[float, float]:
            return 100 * (min(start, end) - low) / span, 100 * abs(end - start) / span

        zero = bar(0.0, 0.0)[0]
        return [UpstreamBar(part, bar(0.0, part.direct), bar(part.direct, part.total), zero) for part in listed]

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a part."""
        return [part.model_dump() for part in self.parts]


class WhyCompareView(View):
    """``value`` - ``other_value`` split exactly over the parts: each one's share here less its share there; nats.

    With ``baseline_difference`` they sum to the difference.
    """

    here: PositionView
    there: PositionView
    target: TargetName
    value: float
    other_value: float
    baseline: BaselineView = Field(description="The one that both were split against.")
    baseline_difference: float = Field(
        0.0,
        description="The baseline's own difference: of a loss where the next tokens are different ones, and where the "
        "final LN scales are held differently; else 0.",
    )
    completeness_error: float = Field(description="Sum of the parts and of the baseline's, less the difference.")
    parts: list[PartView] = Field(description="In the order of the forward pass.")
    sentence: str
    provenance: Provenance
    permalink: str | None = None

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a part, and one of the baseline's own difference, so that they sum to the whole."""
        rows = [part.model_dump(exclude={"ablation", "other"}) for part in self.parts]
        if not self.baseline_difference:
            return rows
        own = {"component": "baseline", "total": self.baseline_difference}
        return [dict.fromkeys(rows[0]) | own, *rows]


class NodeView(View):
    """A part of a circuit. Positions are those of its tokens; null: all of them, of an average."""

    component: str = Field(description="embed, pos, L2H3, L0.mlp, bias; a neuron, 3.62; or rest of L0.mlp.")
    kind: PartKind
    layer: int | None
    position: int | None
    source: int | None = Field(description="For a head: the position that it reads.")
    without: list[str] = Field(description="Of the rest of a head or MLP: what of it stands singly.")
    kept: float | None = Field(None, description="Of its mass, what is drawn; null: not split.")
    remainder: float | None = Field(
        None, description="Its flow less the sum of all its parts: what no linear part explains; null: not split."
    )
    cut: bool = Field(False, description="Whether the limit of parts, width, ended the drawing before 90 %.")


class EdgeView(View):
    """source, target: indices of nodes. share: what source brings to the root by way of target."""

    source: int
    target: int
    share: float
    patched: float | None = Field(
        None, description="Clean less patched, by a real pass without this part in its target's input alone."
    )


class MassiveView(View):
    """A dimension of the stream with more than a tenth of s² where the root reads."""

    position: int
    dimension: int
    value: float
    share: float


class SinkView(View):
    """A token that a layer's heads read more than 30 % on average, at the root's token."""

    layer: int
    source: int
    attention: float


class CircuitView(View):
    """The root is the first node; edges fall by size. In activation, or in nats."""

    tokens: list[Token]
    component: str
    of: Literal["activation", "entropy", "loss"]
    position: int | None = Field(description="null: the mean over the text.")
    value: float
    baseline_value: float
    baseline: BaselineText
    baseline_tokens: int
    nodes: list[NodeView]
    edges: list[EdgeView]
    massive: list[MassiveView]
    sinks: list[SinkView]
    unexplained: float = Field(description="Of value - baseline_value, what no edge into the root has.")
    left: int = Field(description="Nodes large enough to be split that the limit, most, left unsplit.")
    rank_correlation: float | None = Field(
        None,
        description="Spearman's, of the shares and the patched passes; null unless they were asked for, and of fewer "
        "than three edges.",
    )
    disagreement: float | None = Field(
        None, description="Sum of |share - patched| as a part of the sum of |patched|; null unless they were asked for."
    )
    sentence: str
    provenance: Provenance
    permalink: str | None = None

    @property
    def checked(self) -> bool:
        """Whether patched passes stand beside the shares."""
        return any(edge.patched is not None for edge in self.edges)

    @model_validator(mode="after")
    def _edges_join_nodes(self) -> Self:
        n = in_order(self.tokens)
        places = [at or 0 for node in self.nodes for at in (node.position, node.source)]
        if not self.nodes or any(not 0 <= at < n for at in (self.position or 0, *places)):
            raise ValueError("nodes stand at positions that there are not")
        if any(not 0 <= end < len(self.nodes) for edge in self.edges for end in (edge.source, edge.target)):
            raise ValueError("edges join nodes that there are not")
        return self

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line an edge."""
        rows = []
        for edge in self.edges:
            ends = {"source": self.nodes[edge.source], "target": self.nodes[edge.target]}
            told = {
                f"{end}{name}": value
                for end, node in ends.items()
                for name, value in (("", node.component), ("_position", node.position), ("_reads", node.source))
            }
            rows.append({**told, "share": edge.share, "patched": edge.patched})
        return rows


class AlongView(View):
    """One component's shares at every position, in nats."""

    component: str
    kind: PartKind
    layer: int | None
    direct: Series
    ln_scale: Series


class WhyTextView(View):
    """The split at every position: `components` and, summed, all others. null where it is still to come."""

    tokens: list[Token]
    under: list[str] = Field([], description="What was done to the pass, as compact interventions.")
    ln_scale: float | None = Field(None, description="The constant that the final LN scale was held at.")
    target: TargetName
    values: Series
    baseline_value: float
    completeness_error: float = Field(description="The largest over the positions.")
    components: list[AlongView]
    kinds: list[AlongView] = Field(description="The same summed by kind: embedding, heads, MLPs, biases.")
    baseline: BaselineView
    sentence: str
    provenance: Provenance
    permalink: str | None = None

    @model_validator(mode="after")
    def _a_value_a_prediction(self) -> Self:
        n = in_order(self.tokens) - (self.target == "loss")  # the last token has none
        along(n, values=self.values)
        for component in (*self.components, *self.kinds):
            along(n, direct=component.direct, ln_scale=component.ln_scale)
        return self

    def csv_rows(self) -> list[dict[str, Any]]:
        """One line a position and component."""
        return [
            {
                "position": token.position,
                "token": token.text,
                "value": self.values[token.position],
                "component": one.component,
                "direct": one.direct[token.position],
                "ln_scale": one.ln_scale[token.position],
            }
            for token in self.tokens[: len(self.values)]
            for one in self.components
        ]
