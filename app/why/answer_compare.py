"""What makes the difference between two predictions. On the device's thread."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis import decompose as splits
from analysis.progress import Progress
from analysis.trace import Trace, intervene
from analysis.written import Written, read
from app.core import to_view
from app.core.answer import clean_trace, prompt_ids, provenance
from app.core.interventions import write_intervention
from app.core.limits import check_interventions
from app.core.request import AnyIntervention, InterventionRequest
from app.core.residency.resident import Resident
from app.why.answer import (
    WHAT,
    baseline_view,
    baselines,
    chosen,
    halves_and_largest,
    parts_of,
    position_of,
    target_of,
)
from app.why.request import WhyCompareRequest
from app.why.view import WhyCompareView


def why_compare(resident: Resident, request: WhyCompareRequest) -> Iterator[WhyCompareView | Progress]:
    """Two predictions split against one baseline: how far it is, then the view."""
    model, ids = resident.model, prompt_ids(resident, request)
    others = ids
    if request.other_text is not None:
        others = prompt_ids(
            resident, request.model_copy(update={"text": request.other_text, "token_ids": None, "turns": None})
        )
    resident.admit(max(len(ids), len(others)), rows=4)
    target = target_of(request)
    at = position_of(request.position, ids, target)
    other_at = position_of(request.other_position, others, target)
    splits.check(model, ids, [at], target)
    splits.check(model, others, [other_at], target)
    run = read(model, ids)
    means = chosen((yield from baselines(resident, run)), request.baseline)
    (one,) = splits.decompose(model, run, [at], baseline=means, target=target)
    there, changed = _intervened(resident, request, others)
    (other,) = splits.decompose(model, changed, [other_at], baseline=means, target=target)
    apart = replace(
        one,
        baseline=other.value,
        direct=one.direct - other.direct,
        through=one.through - other.through,
        neuron_direct=one.neuron_direct - other.neuron_direct,
        neuron_through=one.neuron_through - other.neuron_through,
        error=one.error - other.error,
    )
    another = target.kind == "loss" and ids[at + 1] != others[other_at + 1]  # the baseline's loss is another one, too
    ranked = apart.neuron_total.abs().argsort(descending=True)[: request.neurons].tolist()
    view = WhyCompareView(
        here=to_view.position(model, clean_trace(resident, ids), at),
        there=to_view.position(model, there, other_at),
        target=request.target,
        value=one.value,
        other_value=other.value,
        baseline=baseline_view(request.baseline, means, one.baseline),
        baseline_difference=one.baseline - other.baseline if another else 0.0,
        completeness_error=apart.error,
        parts=parts_of(apart, ranked, model.last_layer),
        sentence="",
        provenance=provenance("why_compare", resident, ids, request, "mean" if _averaged(request) else None),
    )
    yield view.model_copy(update={"sentence": difference_sentence(view, request.other_interventions)})


def _intervened(resident: Resident, request: WhyCompareRequest, ids: list[int]) -> tuple[Trace, Written]:
    """The other prediction's pass, traced and read, with what is done to it."""
    clean = clean_trace(resident, ids)
    if not request.other_interventions:
        return clean, read(resident.model, ids)
    check_interventions(request.other_interventions, resident.limits)
    done = [to_view.intervention(item) for item in request.other_interventions]
    means = resident.require_means() if _averaged(request) else None
    traced = intervene(resident.model, clean, done, unigram=resident.unigram, means=means)
    return traced, read(resident.model, ids, interventions=done, reference_means=means)


def _averaged(request: WhyCompareRequest) -> bool:
    """Whether a neuron is set to its reference mean."""
    return any(item.mode == "mean" for item in request.other_interventions if isinstance(item, InterventionRequest))


def difference_sentence(view: WhyCompareView, interventions: Sequence[AnyIntervention] = ()) -> str:
    """Which of the two is larger, by how much in either half, and the components that make most of it.

    interventions: on the other's pass.
    """
    apart = view.value - view.other_value
    done = [write_intervention(item) for item in interventions]
    under = f" under {', '.join(done[:3])}{f' and {len(done) - 3} more' if done[3:] else ''}" if done else ""
    there = f"“{view.there.token.text.strip()}”{under} ({view.other_value:.2f})"
    moved = view.baseline_difference
    expected = f"{moved:+.2f} since their next tokens are different ones at the baseline already; " if moved else ""
    return (
        f"{WHAT[view.target]} behind “{view.here.token.text.strip()}” is {view.value:.2f} nats, {abs(apart):.2f} "
        f"{'above' if apart > 0 else 'below'} that behind {there}: "
        f"{expected}{halves_and_largest(view.parts)}"
    )
