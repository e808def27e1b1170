"""Results of the induction lab as views."""

from collections.abc import Sequence

from analysis.controls import standing
from analysis.induction.attribution import Attribution
from analysis.induction.clipped import Clipped, Control
from analysis.induction.curves import Curve, over_sets
from analysis.induction.differences import Differences
from analysis.induction.head_study import Group, HeadStudy
from analysis.induction.heads import KINDS, HeadScores
from analysis.induction.natural import GRAM, Aligned, Passage
from analysis.induction.sequences import Repeated
from analysis.model import Model
from analysis.types import Intervention
from app.core.plain import number, series
from app.core.view import StandingView
from app.induction import view as views

MOST_POINTS = 1500
"""Points of the loss scatter; more would only hide each other."""
ROUNDING = 1e-6
"""Parts smaller than this share of the largest one are rounding of float32 sums."""


def curve_view(found: Curve) -> views.CurveView:
    return views.CurveView(mean=series(found.mean), low=series(found.low), high=series(found.high))


def curve_views(found: dict[str, Curve]) -> dict[str, views.CurveView]:
    return {name: curve_view(values) for name, values in found.items()}


def halves(found: dict[str, Curve], repeated: Repeated) -> dict[str, views.HalvesView]:
    """Means over each copy's positions (leaving out where there is no next token)."""
    return {
        name: views.HalvesView(
            first=number(values.mean[repeated.averaged(0)].nanmean()),
            second=number(values.mean[repeated.averaged(1)].nanmean()),
        )
        for name, values in found.items()
    }


def ranking(
    model: Model,
    found: Differences,
    natural: Differences | None,
    rho: Sequence[float],
    labels: Sequence[Sequence[str]] | None,
    logit_var: Sequence[float] | None,
    limit: int,
) -> list[views.DifferenceRow]:
    order = found.weighted.abs().argsort(descending=True, stable=True)[:limit].tolist()
    norms = model.readout.W_out.norm(dim=1)
    return [
        views.DifferenceRow(
            neuron=f"{model.last_layer}.{index}",
            first=number(found.first[index]),
            second=number(found.second[index]),
            weighted=number(found.weighted[index]),
            natural=None if natural is None else number(natural.weighted[index]),
            norm=number(norms[index]),
            rho=number(rho[index]),
            logit_var=None if logit_var is None else number(logit_var[index]),
            labels=None if labels is None else list(labels[index]),
        )
        for index in order
    ]


def rules(found: Sequence[Intervention]) -> list[views.ClipRow]:
    return [
        views.ClipRow(neuron=str(rule.neuron), direction="at most", m=rule.max)
        if rule.max is not None
        else views.ClipRow(neuron=str(rule.neuron), direction="at least", m=float(rule.min or 0.0))
        for rule in found
    ]


def clip(found: Clipped, controls: Sequence[Control], repeated: Repeated) -> views.ClipView:
    where = repeated.repeats
    curves = {
        "ratio": found.ratio(),
        "ratio_frozen": found.ratio(frozen=True),
        "loss_change": found.loss_change(),
        "loss_change_frozen": found.loss_change(frozen=True),
    }
    means = {f"repeat_{name}": number(values.mean[where].nanmean()) for name, values in curves.items()}
    band = over_sets([control.ratio for control in controls]) if controls else None
    rows = [
        views.ControlRow(
            neurons=[],
            norms=list(control.norms),
            ratio=number(control.ratio.nanmean()),
            loss_change=number(control.loss_change.nanmean()),
        )
        for control in controls
    ]
    standings = {
        name: standing(means[f"repeat_{name}"], [getattr(row, name) for row in rows])
        for name in ("ratio", "loss_change")
    }
    return views.ClipView(
        rules=rules(found.rules),
        **{name: curve_view(values) for name, values in curves.items()},
        **means,
        controls=rows,
        standings=[StandingView.of_standing(name, stands) for name, stands in standings.items() if stands is not None],
        control_ratio=None if band is None else curve_view(band),
        control_positions=where,
        points=points(found, where),
    )


def finding(view: views.InductionView) -> str:
    """What clipping did to entropy on the repeats, beside random sets; the sentence follows from the figures alone."""
    clip, entropy = view.clip, view.halves["entropy"]
    assert clip is not None
    ratio, names = clip.repeat_ratio or 0.0, [rule.neuron for rule in clip.rules]
    stands = next((each for each in clip.standings if each.quantity == "ratio"), None)
    verdict = "beside no control"
    if stands is not None:
        p = "" if stands.p is None else f", p = {stands.p:.2f}"
        verdict = (
            f"the same changes along {stands.of - 1} sets of random directions of their norms by {stands.low:.3f} "
        )
        verdict += f"to {stands.high:.3f} (rank {stands.rank} of {stands.of}{p})"
        if stands.p is not None and stands.p <= 0.05:
            verdict += f": in this model their change there {'adds to confidence' if ratio > 1 else 'takes from it'}"
    moves = "falls" if (entropy.second or 0.0) < (entropy.first or 0.0) else "rises"
    return (
        f"On the second copy of {view.repeat.rows} passages entropy {moves} from {entropy.first:.2f} to "
        f"{entropy.second:.2f} nats. The {len(names)} neurons that change most there ({', '.join(names)}), clipped to "
        f"their mean over the first copy, change it by a factor of {ratio:.3f}, {verdict}."
    )


def points(found: Clipped, where: Sequence[int]) -> list[views.PointView]:
    """The repeats' tokens, evenly thinned to a number that a chart can show."""
    loss, change = found.clean.loss, found.total.loss - found.clean.loss
    pairs = [(row, position) for row in range(len(loss)) for position in where if found.clean.rank[row, position] >= 0]
    return [
        views.PointView(
            row=row,
            position=position,
            loss=number(loss[row, position]),
            change=number(change[row, position]),
            reciprocal_rank=1 / (1 + int(found.clean.rank[row, position])),
        )
        for row, position in pairs[:: -(-len(pairs) // MOST_POINTS) or 1]
    ]


def head_rows(found: HeadScores) -> list[views.HeadRow]:
    n_layers, n_heads = found.scores["induction"].shape
    return [
        views.HeadRow(
            head=f"{layer}.{head}", layer=layer, **{kind: number(found.scores[kind][layer, head]) for kind in KINDS}
        )
        for layer in range(n_layers)
        for head in range(n_heads)
    ]


def part_rows(found: Attribution, repeated: Repeated) -> list[views.PartRow]:
    by_position = found.parts.double().mean(1)
    first, second = (by_position[:, repeated.averaged(index)].mean(1) for index in (0, 1))
    size = (second - first).abs()
    # Components that the model lacks (biases of attention) are zero but for rounding, which is no order.
    order = (size / size.max().clamp_min(ROUNDING)).div(ROUNDING).round().argsort(descending=True, stable=True).tolist()
    return [
        views.PartRow(
            component=found.names[index],
            first=number(first[index]),
            second=number(second[index]),
            change=number(second[index] - first[index]),
            on_repeats=number(by_position[index, repeated.repeats].sum()),
            by_position=series(by_position[index]),
        )
        for index in order
    ]


def group_row(study: HeadStudy, group: Group) -> views.GroupRow:
    changes = {str(neuron): study.change(group, neuron) for neuron in study.clean.activations}
    return views.GroupRow(
        role=group.role,
        heads=list(map(str, group.heads)),
        activation={name: number(values.double().mean()) for name, values in changes.items()},
        d_entropy=number((group.found.entropy - study.clean.entropy).double().mean()),
        d_ln_scale=number((group.found.ln_scale - study.clean.ln_scale).double().mean()),
        by_query={name: series(values.double().mean(0)) for name, values in changes.items()},
    )


def passage(model: Model, found: Passage) -> views.PassageView:
    ids = list(found.row[: found.second + GRAM + 1])
    start = 1 if ids[0] == model.bos_id else 0
    gram = ids[found.first : found.first + GRAM]
    return views.PassageView(
        text=model.tokenizer.decode(ids[start:], clean_up_tokenization_spaces=False),
        gram=model.tokenizer.decode(gram, clean_up_tokenization_spaces=False),
        first=found.first,
        second=found.second,
        continued=found.continued,
    )


def aligned(found: Aligned) -> views.AlignedView:
    return views.AlignedView(first=curve_views(found.first), second=curve_views(found.second))
