"""What drives a neuron, or a component's share of the entropy, followed back. On the device's thread."""

import re
from collections.abc import Iterator

from analysis import circuit as circuits
from analysis import decompose as splits
from analysis.circuit import Circuit, Node
from analysis.components import Component, rows_at_once
from analysis.decompose import Target
from analysis.grammar import printed
from analysis.progress import Progress, whole
from analysis.types import NeuronId
from analysis.written import read
from app.core import to_view
from app.core.answer import prompt_ids, provenance
from app.core.residency.resident import Resident
from app.core.told import quoted
from app.why.answer import baselines, chosen
from app.why.request import CircuitRequest
from app.why.view import CircuitView, EdgeView, MassiveView, NodeView, SinkView


def circuit(resident: Resident, request: CircuitRequest) -> Iterator[CircuitView | Progress]:
    """How far it is, then the view."""
    return whole(circuit_views(resident, request))


def circuit_views(resident: Resident, request: CircuitRequest) -> Iterator[CircuitView | Progress]:
    """The circuit as it is drawn; where the check is asked for, the whole again once every edge has its pass."""
    model, ids = resident.model, prompt_ids(resident, request)
    held = 8 * model.n_layers * model.n_heads * len(ids) ** 2
    if request.average:  # what every component wrote at every token
        held += 16 * (model.n_layers * (model.n_heads + 1) + 3) * len(ids) * model.d_model
    resident.admit(len(ids), rows=3 + 2 * (rows_at_once(len(ids)) if request.check else 0), extra=held)
    target = Target("loss" if request.of == "loss" else "entropy")
    last = len(ids) - (2 if target.kind == "loss" else 1)
    position = last if request.position is None else request.position
    splits.check(model, ids, [position], target)
    at = None if request.average else position
    circuits.check_root(model, _named(request.component), at, of_prediction=request.of != "activation")
    keep = resident.settings.keep_sinks
    run = read(model, ids, keep_sinks=keep)
    means = chosen((yield from baselines(resident, run, every=request.baseline == "prompt")), request.baseline)
    clean = circuits.read(model, ids, means, keep_sinks=keep)
    along = None
    if request.of != "activation":
        (split,) = splits.decompose(model, run, [position], baseline=means, target=target)
        along = split.gradient
    drawn = circuits.circuit(
        clean,
        _named(request.component),
        at,
        along=along,
        hops=request.hops,
        width=request.width,
        most=request.most,
    )
    yield _view(resident, request, ids, drawn, means.n_tokens)
    if not request.check:
        return
    for checked in circuits.check(clean, drawn, along):
        drawn = checked
        yield Progress("patched passes", sum(edge.patched is not None for edge in drawn.edges), len(drawn.edges))
    yield _view(resident, request, ids, drawn, means.n_tokens)


def _view(
    resident: Resident, request: CircuitRequest, ids: list[int], drawn: Circuit, baseline_tokens: int
) -> CircuitView:
    """The circuit in names and numbers, and the sentence that they make."""
    nodes = _nodes(drawn)
    followed = {one.node: one for one in drawn.followed}
    view = CircuitView(
        tokens=to_view.tokens(resident.model, ids),
        component=request.component,
        of=request.of,
        position=drawn.root.position,
        value=drawn.value,
        baseline_value=drawn.baseline,
        baseline=request.baseline,
        baseline_tokens=baseline_tokens,
        nodes=[
            NodeView(
                component=node.name,
                kind="rest" if node.without else node.kind,
                layer=node.layer if node.layer >= 0 else None,
                position=node.position,
                source=node.source,
                without=[part.name if part.source is None else f"source {part.source}" for part in node.parts_left_out],
                kept=followed[node].kept if node in followed else None,
                remainder=followed[node].remainder if node in followed else None,
                cut=node in followed and followed[node].cut,
            )
            for node in nodes
        ],
        edges=[
            EdgeView(source=nodes[edge.source], target=nodes[edge.target], share=edge.share, patched=edge.patched)
            for edge in drawn.edges
        ],
        massive=[
            MassiveView(position=one.position, dimension=one.dimension, value=one.value, share=one.share)
            for one in drawn.massive
        ],
        sinks=[SinkView(layer=one.layer, source=one.source, attention=one.attention) for one in drawn.sinks],
        unexplained=drawn.unexplained,
        left=drawn.left,
        rank_correlation=drawn.rank_correlation,
        disagreement=drawn.disagreement,
        sentence="",
        provenance=provenance("circuit", resident, ids, request),
    )
    return view.model_copy(update={"sentence": sentence(view)})


def sentence(view: CircuitView) -> str:
    """What the numbers say: the difference, its largest parts, and how much of it is drawn."""
    root, unit = view.nodes[0], "" if view.of == "activation" else " nats"
    what = view.component if view.of == "activation" else f"{view.component}'s part of the {view.of}"
    where = "on average over this text" if view.position is None else "here"
    difference = view.value - view.baseline_value
    text = f"{what} is {printed(view.value, '.3g')}{unit} {where}, {printed(difference, '+.3g')} from its mean "
    text += f"({printed(view.baseline_value, '.3g')})."
    if not view.edges:
        return f"{text} All that it reads is at its mean, to rounding: nothing is drawn."
    first = [edge for edge in view.edges if edge.target == 0][:3]
    if first:
        names = (f"{_place(view, view.nodes[edge.source])} {printed(edge.share, '+.3g')}" for edge in first)
        text += f" Largest parts: {', '.join(names)}."
    text += f" What is drawn into it has {root.kept or 0:.0%} of its mass"
    text += f" and sums to {printed(difference - view.unexplained, '+.2g')}{unit}; "
    text += f"{printed(view.unexplained, '+.2g')}{unit} is in no edge"
    text += f" ({printed(root.remainder or 0, '+.2g')} in no linear part at all)."
    if cut := sum(node.cut for node in view.nodes):
        text += f" Of {cut} nodes the limit of parts cut off what 90 % would need."
    if view.left:
        text += f" {view.left} more nodes are large enough to be split; the limit is {_split(view)}."
    if view.disagreement is None:
        return text
    apart = f"apart by {view.disagreement:.0%} of the passes' sizes."
    if view.rank_correlation is None:
        return f"{text} Shares and patched passes are {apart}"
    spearman = printed(view.rank_correlation, ".2f")
    return f"{text} Order of the shares against patched passes: Spearman {spearman}; they are {apart}"


def _split(view: CircuitView) -> int:
    return sum(node.kept is not None for node in view.nodes)


def _place(view: CircuitView, node: NodeView) -> str:
    if node.source is None:
        return node.component
    return f"{node.component} reading “{quoted(view.tokens[node.source].text)}”"


def _named(component: str) -> NeuronId | Component:
    if match := re.fullmatch(r"L([0-9]+)H([0-9]+)", component):
        return Component("head", int(match[1]), int(match[2]))
    if match := re.fullmatch(r"L([0-9]+)\.mlp", component):
        return Component("mlp", int(match[1]))
    return NeuronId.parse(component)


def _nodes(drawn: Circuit) -> dict[Node, int]:
    """In the order in which they come up, the root first."""
    ends = (end for edge in drawn.edges for end in (edge.target, edge.source))
    return {node: i for i, node in enumerate(dict.fromkeys((drawn.root, *ends)))}
