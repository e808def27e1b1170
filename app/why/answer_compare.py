"""What makes the difference between two predictions. On the device's thread."""

from collections.abc import Iterator
from dataclasses import replace

from analysis import decompose as splits
from analysis.grammar import printed
from analysis.progress import Progress
from app.core import to_view
from app.core.answer import prompt_ids, provenance
from app.core.residency.resident import Resident
from app.core.told import quoted
from app.core.view import PositionView
from app.why.answer import (
    WHAT,
    baseline_view,
    baselines,
    chosen,
    halves_and_largest,
    parts_of,
    position_of,
    side_of,
)
from app.why.passes import Pass, passed, target_of
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
    target = target_of(resident, request)
    at = position_of(request.position, ids, target)
    other_at = position_of(request.other_position, others, target)
    splits.check(model, ids, [at], target)
    splits.check(model, others, [other_at], target, where="the text" if others is ids else "the other text")
    here = passed(resident, ids, request.interventions, request.ln_scale)
    there = passed(resident, others, request.other_interventions, request.other_ln_scale)
    means = chosen((yield from baselines(resident, here.clean)), request.baseline)
    (one,) = splits.decompose(model, here.written, [at], baseline=means, target=target, readout=here.readout)
    (other,) = splits.decompose(model, there.written, [other_at], baseline=means, target=target, readout=there.readout)
    apart = replace(
        one,
        baseline=other.value,
        direct=one.direct - other.direct,
        through=one.through - other.through,
        neuron_direct=one.neuron_direct - other.neuron_direct,
        neuron_through=one.neuron_through - other.neuron_through,
        error=one.error - other.error,
    )
    # Of another next token, or under another scale, the baseline itself has another value.
    another = target.kind == "loss" and ids[at + 1] != others[other_at + 1]
    another = another or here.ln_scale != there.ln_scale
    ranked = apart.neuron_total.abs().argsort(descending=True)[: request.neurons].tolist()
    view = WhyCompareView(
        here=to_view.position(model, here.trace, at),
        there=to_view.position(model, there.trace, other_at),
        target=request.target,
        value=one.value,
        other_value=other.value,
        baseline=baseline_view(request.baseline, means, one.baseline),
        baseline_difference=one.baseline - other.baseline if another else 0.0,
        completeness_error=apart.error,
        parts=parts_of(apart, ranked, model.last_layer),
        sentence="",
        provenance=provenance("why_compare", resident, ids, request, here.baseline or there.baseline),
    )
    yield view.model_copy(update={"sentence": difference_sentence(view, here, there)})


def difference_sentence(view: WhyCompareView, here: Pass, there: Pass) -> str:
    """Which of the two is larger, by how much in either half, and the components that make most of it."""
    apart = view.value - view.other_value
    moved = view.baseline_difference
    why = "their LN scales are held differently" if here.ln_scale != there.ln_scale else ""
    why = why or "their next tokens are different ones"
    expected = f"{printed(moved, '+.2f')} at the baseline already, since {why}; " if moved else ""
    return (
        f"{WHAT[view.target]} behind {_named(view.here, here)} is {printed(view.value, '.2f')} nats, {side_of(apart)} "
        f"that behind {_named(view.there, there)} ({printed(view.other_value, '.2f')}): "
        f"{expected}{halves_and_largest(view.parts)}"
    )


def _named(at: PositionView, ran: Pass) -> str:
    return f"“{quoted(at.token.text)}”" + (f" under {ran.words}" if ran.words else "")
