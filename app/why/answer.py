"""A prediction's entropy, loss or log-probability split over all that wrote to the stream. On the device's thread."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np

from analysis import components as written
from analysis import decompose as splits
from analysis.components import MeanWrites
from analysis.decompose import Split, Target
from analysis.grammar import printed
from analysis.progress import Progress, whole
from analysis.ranks import spearman
from analysis.types import InputError
from analysis.written import Written
from app.core import to_view
from app.core.answer import prompt_ids, provenance
from app.core.escape import visible
from app.core.question import priced
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.sample import sample_rows
from app.core.told import counted, quoted
from app.core.view import Token
from app.why.passes import Pass, passed, target_of, undisturbed
from app.why.request import BaselineText, WhyRequest, WhyTextRequest, last_position
from app.why.view import SAME, AlongView, BaselineView, PartView, SharesView, WhyTextView, WhyView

MEAN_WRITES = Kind("mean writes", "analysis.components", "app.core.sample")
BASELINE_TOKENS = 2048
"""A mean over so many tokens of the reference text: enough for a baseline, and soon made for a model of real size."""
WHAT = {"entropy": "Entropy", "loss": "Loss", "log_prob": "The log-probability"}


def why(resident: Resident, request: WhyRequest) -> Iterator[WhyView | Progress]:
    """How far it is, then the view."""
    return whole(why_views(resident, request))


def why_views(resident: Resident, request: WhyRequest) -> Iterator[WhyView | Progress]:
    """The shares first; where they are asked for, the whole again with the ablations beside them."""
    model, ids = resident.model, prompt_ids(resident, request)
    resident.admit(len(ids), rows=3 + 2 * (written.rows_at_once(len(ids)) if request.ablate else 0))
    target = target_of(resident, request)
    position = position_of(request.position, ids, target)
    splits.check(model, ids, [position], target)
    ran = passed(resident, ids, request.interventions, request.ln_scale)
    named = yield from baselines(resident, ran.clean)
    means = chosen(named, request.baseline)
    aim: dict[str, Any] = {"target": target, "readout": ran.readout}
    split_by = {
        name: next(splits.decompose(model, ran.written, [position], baseline=other, **aim))
        for name, other in named.items()
    }
    split = split_by[request.baseline]
    ranked = split.neuron_total.abs().argsort(descending=True)[: request.neurons].tolist()
    parts = parts_of(split, ranked, model.last_layer)
    for name, other in split_by.items():
        if name != request.baseline:
            beside = parts_of(other, ranked, model.last_layer)
            parts = [part.model_copy(update={"other": one.total}) for part, one in zip(parts, beside, strict=True)]
    token_id = ids[position + 1] if target.kind == "loss" else target.token_id
    view = WhyView(
        clean=to_view.position(model, ran.trace, position),
        under=list(ran.under),
        ln_scale=ran.ln_scale,
        undisturbed=undisturbed(resident, ran, position, target),
        target=request.target,
        token=None
        if token_id is None
        else Token(position=position + 1, id=token_id, text=model.token_texts([token_id])[0]),
        value=split.value,
        baseline_value=split.baseline,
        completeness_error=split.error,
        nodes=split.nodes,
        eps=model.eps,
        parts=parts,
        baselines=[_shares(name, other, split_by[name]) for name, other in named.items()],
        sentence="",
        provenance=provenance("why", resident, ids, request, ran.baseline),
    )
    view = view.model_copy(update={"sentence": sentence(view, request.baseline, ran.words)})
    yield view
    if not request.ablate:
        return
    ablated: dict[str, float] = {}
    total = sum(component.kind != "biases" for component in means.components) + len(ranked)
    for which, value in splits.ablations(model, ran.written, position, means, neurons=ranked, hooks=ran.hooks, **aim):
        ablated[f"{model.last_layer}.{which}" if isinstance(which, int) else which.name] = value
        yield Progress("mean ablations", len(ablated), total)
    parts = [part.model_copy(update={"ablation": ablated.get(part.component)}) for part in parts]
    yield view.model_copy(update={"parts": parts, "rank_correlation": _correlation(parts)})


def why_text(resident: Resident, request: WhyTextRequest) -> Iterator[WhyTextView | Progress]:
    """How far it is, then the view."""
    return whole(why_text_views(resident, request))


def why_text_views(resident: Resident, request: WhyTextRequest) -> Iterator[WhyTextView | Progress]:
    """Every prediction of the prompt, some more positions each time."""
    model, ids = resident.model, prompt_ids(resident, request)
    resident.admit(len(ids), rows=3)
    target = target_of(resident, request)
    positions = range(len(ids) - (1 if target.kind == "loss" else 0))
    splits.check(model, ids, positions, target)
    ran = passed(resident, ids, request.interventions, request.ln_scale)
    means = chosen((yield from baselines(resident, ran.clean)), request.baseline)
    rows: list[Split] = []
    aim: dict[str, Any] = {"target": target, "readout": ran.readout}
    for split in splits.decompose(model, ran.written, positions, baseline=means, **aim):
        rows.append(split)
        if len(rows) % splits.STEP == 0 or len(rows) == len(positions):
            yield _along(resident, request, ran, rows, len(positions), means)
            yield Progress("positions", len(rows), len(positions))


def _along(
    resident: Resident, request: WhyTextRequest, ran: Pass, rows: list[Split], total: int, means: MeanWrites
) -> WhyTextView:
    """The first positions taken apart; nothing yet at the others."""
    direct, through = (np.stack([getattr(row, half).cpu().numpy() for row in rows]) for half in ("direct", "through"))
    order = np.abs(direct + through).mean(0).argsort()[::-1]
    listed = sorted(order[: request.limit].tolist())
    rest = sorted(order[request.limit :].tolist())
    to_come = [None] * (total - len(rows))

    def summed(which: list[int], component: str, kind: str, layer: int | None = None) -> AlongView:
        halves = ([*half[:, which].sum(1).tolist(), *to_come] for half in (direct, through))
        return AlongView(component=component, kind=kind, layer=layer, direct=next(halves), ln_scale=next(halves))

    named = means.components
    along = [summed([i], named[i].name, named[i].kind, named[i].layer) for i in listed]
    if rest:
        along.append(summed(rest, f"{len(rest)} others", "rest"))
    of_kind = {
        kind: [i for i, component in enumerate(named) if component.kind == kind]
        for kind in dict.fromkeys(component.kind for component in named)
    }
    ids = list(ran.trace.token_ids)
    view = WhyTextView(
        tokens=to_view.tokens(resident.model, ids),
        under=list(ran.under),
        ln_scale=ran.ln_scale,
        target=request.target,
        values=[*(row.value for row in rows), *to_come],
        baseline_value=rows[0].baseline,
        completeness_error=max((row.error for row in rows), key=abs),
        components=along,
        kinds=[summed(which, kind, kind) for kind, which in of_kind.items()],
        baseline=baseline_view(request.baseline, means, rows[0].baseline),
        sentence="",
        provenance=provenance("why_text", resident, ids, request, ran.baseline),
    )
    return view.model_copy(update={"sentence": text_sentence(view, ran.words)})


def text_sentence(view: WhyTextView, words: str = "") -> str:
    """Which components move the prediction most over the text, and what stands out at the largest value. words: what
    was done to its pass."""
    done = sum(value is not None for value in view.values)
    shares = {
        one.component: np.array(one.direct[:done], float) + np.array(one.ln_scale[:done], float)
        for one in view.components
        if one.kind != "rest"
    }
    sizes = sorted(((float(np.abs(each).mean()), name) for name, each in shares.items()), reverse=True)[:3]
    most = max(range(done), key=lambda at: view.values[at] or 0.0)
    there = max(shares, key=lambda name: abs(float(shares[name][most])))
    return (
        f"Over {counted(done, 'prediction')}{f' under {words}' if words else ''} the largest shares, on average in "
        f"size, are {', '.join(f'{name} {size:.2f}' for size, name in sizes)} nats. {WHAT[view.target]} is largest "
        f"behind “{quoted(view.tokens[most].text)}” at {most}, {printed(view.values[most] or 0.0, '.2f')}; the largest "
        f"share there is {there}'s, {printed(shares[there][most], '+.2f')}."
    )


def sentence(view: WhyView, baseline: BaselineText, words: str = "") -> str:
    """What the numbers say: the difference, its two halves, and the components that make most of it.

    The last MLP counts as one, however many of its neurons are listed singly. words: what was done to its pass.
    """
    difference = view.value - view.baseline_value
    against = "the reference text's" if baseline == "reference" else "this prompt's"
    under = f" under {words}" if words else ""
    of = f" of “{visible(view.token.text)}”" if view.target == "log_prob" and view.token else ""
    before = "" if view.undisturbed is None else f" ({printed(view.undisturbed, '.2f')} undisturbed)"
    return (
        f"{WHAT[view.target]}{of} here{under} is {printed(view.value, '.2f')} nats{before}, {side_of(difference)} that "
        f"of {against} mean stream ({printed(view.baseline_value, '.2f')}): {halves_and_largest(view.parts)}"
    )


def side_of(difference: float) -> str:
    """How far a value is from another, and on which side."""
    return (
        f"{abs(difference):.2f} {'above' if difference > 0 else 'below'}" if abs(difference) >= SAME else "the same as"
    )


def halves_and_largest(parts: Sequence[PartView]) -> str:
    direct, scale = sum(part.direct for part in parts), sum(part.ln_scale for part in parts)
    totals: dict[str, float] = {}
    for part in parts:
        name = part.component if part.kind not in ("neuron", "rest") else f"L{part.layer}.mlp"
        totals[name] = totals.get(name, 0.0) + part.total
    largest = sorted(totals.items(), key=lambda item: -abs(item[1]))[:3]
    named = ", ".join(f"{name} {printed(total, '+.2f')}" for name, total in largest)
    halves = f"{printed(direct, '+.2f')} through the logits, {printed(scale, '+.2f')} through the LN scale"
    return f"{halves}. Largest: {named}."


def position_of(asked: int | None, ids: Sequence[int], target: Target) -> int:
    """Without one, the last that has the target."""
    return last_position(len(ids), target.kind) if asked is None else asked


def baselines(
    resident: Resident, run: Written, *, every: bool = False
) -> Generator[Progress, None, dict[BaselineText, MeanWrites]]:
    """Both, where the model has a reference text. every: with the means of all MLPs' neurons in the prompt's, too."""
    reference = yield from _reference(resident)
    if every:
        keep = resident.settings.keep_sinks
        *_, whole = written.mean_writes(resident.model, [run.token_ids], source="this prompt", keep_sinks=keep)
    prompt: dict[BaselineText, MeanWrites] = {"prompt": (whole.result if every else None) or run.means}
    return prompt if reference is None else prompt | {"reference": reference}


def _reference(resident: Resident) -> Generator[Progress, None, MeanWrites | None]:
    """The means over the reference text, kept with the model; a row a step where they are not there yet."""
    rows = _rows(resident)
    keep = resident.settings.keep_sinks
    key = resident.key_of(MEAN_WRITES, keep, *(token for row in rows for token in (-1, *row)))
    means: MeanWrites | None = resident.cache.get(key)
    if means is not None or not rows:
        return means
    for progress in written.mean_writes(resident.model, rows, source="the reference text", keep_sinks=keep):
        yield Progress("means of the reference text", progress.done, progress.total)
        means = progress.result
    return resident.cache.cached(key, lambda: means)


@priced()
def every_row(resident: Resident, request: WhyRequest, first: Sequence[int]) -> list[list[int]]:
    """Token ids of the rows that the baseline is a mean over; ``first``: those of the prompt."""
    return [list(first)] if request.baseline == "prompt" else _rows(resident)


def _rows(resident: Resident) -> list[list[int]]:
    """The first rows of the reference text."""
    rows: list[list[int]] = []
    for row in sample_rows(resident):
        if sum(map(len, rows)) >= BASELINE_TOKENS:
            break
        rows.append(row)
    return rows


def chosen(named: dict[BaselineText, MeanWrites], name: BaselineText) -> MeanWrites:
    if name not in named:
        raise InputError(
            "This model has no reference text.", code="no_reference_text", hint='Ask with "baseline": "prompt".'
        )
    return named[name]


def baseline_view(name: BaselineText, means: MeanWrites, value: float) -> BaselineView:
    return BaselineView(name=name, text=means.source, tokens=means.n_tokens, value=value)


def _shares(name: BaselineText, means: MeanWrites, split: Split) -> SharesView:
    return SharesView(
        name=name,
        text=means.source,
        tokens=means.n_tokens,
        value=split.baseline,
        direct=float(split.direct.sum()),
        ln_scale=float(split.through.sum()),
        completeness_error=split.error,
    )


def parts_of(split: Split, ranked: Sequence[int], layer: int) -> list[PartView]:
    """The components in their order; the last MLP as its strongest neurons and the rest of it."""
    parts = []
    for i, component in enumerate(split.components):
        direct, through = float(split.direct[i]), float(split.through[i])
        part = PartView(
            component=component.name,
            kind=component.kind,
            layer=component.layer,
            total=direct + through,
            direct=direct,
            ln_scale=through,
        )
        if component.kind != "mlp" or component.layer != layer or not ranked:
            parts.append(part)
            continue
        singly = [
            PartView(
                component=f"{layer}.{neuron}",
                kind="neuron",
                layer=layer,
                total=float(split.neuron_direct[neuron] + split.neuron_through[neuron]),
                direct=float(split.neuron_direct[neuron]),
                ln_scale=float(split.neuron_through[neuron]),
            )
            for neuron in ranked
        ]
        direct -= sum(one.direct for one in singly)
        through -= sum(one.ln_scale for one in singly)
        rest = PartView(
            component=f"rest of L{layer}.mlp",
            kind="rest",
            layer=layer,
            total=direct + through,
            direct=direct,
            ln_scale=through,
        )
        parts += [*singly, rest]
    return parts


def _correlation(parts: Sequence[PartView]) -> float | None:
    """Of the order of the shares with that of the ablations."""
    pairs = [(part.total, part.ablation) for part in parts if part.ablation is not None]
    sides = np.array(pairs).T
    return spearman(*sides) if pairs and np.ptp(sides, axis=1).min() >= SAME else None
