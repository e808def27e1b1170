"""The pass whose prediction is split: undisturbed, under interventions, or with its LN scale held."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.decompose import Target, value_at
from analysis.model import Hook
from analysis.readout import Readout
from analysis.trace import AnyIntervention, Trace, hooks_of, intervene, read_with
from analysis.types import InputError, Intervention
from analysis.written import Written, read
from app.core import to_view
from app.core.answer import clean_trace
from app.core.interventions import write_intervention
from app.core.limits import check_interventions
from app.core.request import Interventions
from app.core.residency.resident import Resident
from app.why.request import SplitRequest


@dataclass(frozen=True)
class Pass:
    """trace, written: of the pass as it was asked for. clean: undisturbed, whose means are the prompt's baseline.
    readout: the model's own, or one whose scale is held at ``ln_scale``. under: what was done, compactly. hooks: of the
    interventions. baseline: "mean" where they set a neuron to its reference mean."""

    trace: Trace
    written: Written
    clean: Written
    readout: Readout
    ln_scale: float | None
    under: tuple[str, ...]
    hooks: tuple[Hook, ...]
    baseline: str | None

    @property
    def disturbed(self) -> bool:
        return bool(self.under) or self.ln_scale is not None

    @property
    def words(self) -> str:
        """What was done to it, as a sentence names it; empty: nothing."""
        held = () if self.ln_scale is None else (f"the LN scale held at {self.ln_scale:.4g}",)
        listed = (*held, *self.under)
        return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if listed[3:] else "")


def passed(
    resident: Resident, ids: Sequence[int], interventions: Interventions, ln_scale: float | str | None = None
) -> Pass:
    """Run it, clean and, where it is asked for, disturbed. What does not fit the text is refused before any pass."""
    model, means = resident.model, None
    check_interventions(interventions, resident.limits)
    done: list[AnyIntervention] = [to_view.intervention(item) for item in interventions]
    if any(item.mode == "mean" for item in done if isinstance(item, Intervention)):
        means = resident.require_means()
    hooks = hooks_of(model, model.tokens(ids), done, means) if done else []
    keep = resident.settings.keep_sinks
    clean, traced = read(model, ids, keep_sinks=keep), clean_trace(resident, ids)
    readout, scale = model.readout, None
    if ln_scale is not None:
        scale = float(traced.metrics.ln_scale.median()) if isinstance(ln_scale, str) else ln_scale
        readout = readout.with_constant_scale(scale)
        traced = read_with(traced, readout, resident.unigram)
    written = clean
    if done:
        traced = intervene(model, traced, done, unigram=resident.unigram, means=means, readout=readout)
        written = read(model, ids, interventions=done, reference_means=means, keep_sinks=keep)
    under = tuple(write_intervention(item) for item in interventions)
    return Pass(traced, written, clean, readout, scale, under, tuple(hooks), None if means is None else "mean")


def undisturbed(resident: Resident, ran: Pass, position: int, target: Target) -> float | None:
    """F of the undisturbed pass, where another is split."""
    if not ran.disturbed:
        return None
    ids = ran.clean.token_ids
    followed = ids[position + 1] if target.kind == "loss" else target.token_id
    return value_at(resident.model, ran.clean.stream[position], target, followed)


def target_of(resident: Resident, request: SplitRequest) -> Target:
    """With the token as the model knows it."""
    named = None if request.token is None else token_named(resident, request.token)
    return Target(request.target, request.token_id if named is None else named)


def token_named(resident: Resident, text: str) -> int:
    """The one token that reads so, within a text; else with ␣ and ⏎ read as what they stand for. InputError."""
    model = resident.model
    written = text.translate({ord("␣"): " ", ord("⏎"): "\n", ord("⇥"): "\t"})
    for each in dict.fromkeys((text, written)):
        if len(ids := model.encode_within(each)) == 1:
            return ids[0]
    ids = model.encode_within(written)
    pieces = ", ".join(map(repr, model.token_texts(ids[:4]))) + (f" and {len(ids) - 4} more" if ids[4:] else "")
    spaced = [] if written.startswith(" ") else model.encode_within(f" {written}")
    hint = "Name one of them, or give a token's id."
    if len(spaced) == 1:
        hint = f"With a space in front, {' ' + written!r}, it is one."
    raise InputError(
        f"{written[:40]!r} is not one token of this model; it is read as {pieces}.", code="no_single_token", hint=hint
    )
