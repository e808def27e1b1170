"""Repeated text as a link tells it."""

from collections.abc import Sequence

from app.core import told
from app.core.format import num, signed
from app.core.told import Shade, Told
from app.induction import request as requests
from app.induction import view as views

RANKED = {"Neuron": "neuron", "first copy": "first", "second copy": "second", "change × norm": "weighted"}
SCORES = {"Head": "head", "induction": "induction", "duplicate": "duplicate", "previous": "previous", "first": "first"}
PARTS = {"Component": "component", "first copy": "first", "second copy": "second", "change": "change"}
FIRST = 12  # rows that a link shows; the whole table stands below


def of_induction(view: views.InductionView, asked: requests.InductionRequest) -> Told:
    """The two copies compared, the first neuron, and what clipping does."""
    repeat, entropy, loss = view.repeat, view.halves["entropy"], view.halves["loss"]
    caption = (
        f"From the first copy of {repeat.length} tokens to the second ({_text(repeat)}), the entropy goes from "
        f"{num(entropy.first, 2)} to {num(entropy.second, 2)} nats, the loss from {num(loss.first, 2)} to "
        f"{num(loss.second, 2)}; {view.ranking[0].neuron} changes most."
    )
    if view.clip is not None and view.clip.repeat_ratio is not None:
        caption += (
            f" With {told.counted(len(view.clip.rules), 'neuron')} clipped as in the first copy, the entropy on the "
            f"repeat is {num(view.clip.repeat_ratio, 2)} times what it is."
        )
    return Told(
        caption=caption,
        interventions=_clipped(view.clip.rules if view.clip else []),
        strip=_strip(repeat, view.curves["entropy"].mean if repeat.rows == 1 else []),
        **told.table(RANKED, view.ranking[:FIRST], "What changes from copy to copy"),
    )


def of_heads(view: views.HeadsView, _: requests.HeadsRequest) -> Told:
    rows = sorted(view.rows, key=lambda row: -(row.induction or 0.0))
    copying = sum((row.induction or 0.0) >= view.threshold for row in rows)
    first = f"; the strongest is {rows[0].head} with {num(rows[0].induction, 2)}" if rows else ""
    return Told(
        caption=f"On repeated random tokens {copying} of {len(rows)} heads look at what came after the same token "
        f"before (score {num(view.threshold, 2)} or more){first}.",
        **told.table(SCORES, rows[:FIRST], "Mean attention from the repeat"),
    )


def of_attribution(view: views.AttributionView, _: requests.AttributionRequest) -> Told:
    first = f"; the largest part by {view.rows[0].component} ({signed(view.rows[0].change)})" if view.rows else ""
    total = sum(row.change or 0.0 for row in view.rows)
    return Told(
        caption=f"From the first copy to the second the pre-activation of {view.neuron} changes by "
        f"{signed(total)}{first}.",
        strip=_strip(view.repeat),
        **told.table(PARTS, view.rows[:FIRST], f"What drives {view.neuron}"),
    )


def of_ablation(view: views.HeadAblationView, asked: requests.HeadAblationRequest) -> Told:
    """The set beside random sets of as many heads."""
    neuron = view.neurons[0]
    roles = ("all", "random_all") if any(row.role == "all" for row in view.rows) else ("one", "random_one")
    told_of, chance = (_mean_of(view, role, neuron) for role in roles)
    how = {"bos": "made to read BOS only", "mean": "set to their means", "zero": "set to 0"}[view.mode]
    beside = "" if chance is None else f", random heads by {signed(chance)}"
    return Told(
        caption=f"{told.counted(len(asked.heads), 'head')} ({', '.join(asked.heads)}) {how}: the activation of "
        f"{neuron} on the repeat changes by {signed(told_of)}{beside}.",
        interventions=[f"heads {', '.join(asked.heads)}: {how}"],
        strip=_strip(view.repeat),
        about="What taking heads out does",
        heads=["Heads", f"Δ activation of {neuron}", "Δ entropy", "Δ LN scale"],
        rows=[
            [f"{' '.join(row.heads)}{' (random)' * row.role.startswith('random')}", row.activation[neuron],
             row.d_entropy, row.d_ln_scale]
            for row in view.rows
        ],
    )  # fmt: skip


def of_natural(view: views.NaturalView, _: requests.NaturalRequest) -> Told:
    caption = (
        f"{told.counted(len(view.passages), 'passage')} with a second occurrence in "
        f"{told.counted(view.searched, 'row')} of {view.source}."
    )
    if view.clean is not None:
        pairs = (view.clean.first["entropy"].mean[-2], view.clean.second["entropy"].mean[-2])
        caption += f" At their sixth token the entropy is {num(pairs[0], 2)} nats the first time, {num(pairs[1], 2)} "
        caption += "the second."
    return Told(caption=caption, interventions=_clipped(view.rules))


def _clipped(rules: list[views.ClipRow]) -> list[str]:
    return [f"neuron {rule.neuron}: activation {rule.direction} {num(rule.m)}" for rule in rules]


def _text(repeat: views.RepeatView) -> str:
    kind = {"natural": "rows of the sample text", "random": "rows of random tokens"}.get(repeat.kind)
    return f"{repeat.rows} {kind}" if kind else "one text"


def _strip(repeat: views.RepeatView, values: Sequence[float | None] = ()) -> list[Shade]:
    """The first row; shaded where it is the only one."""
    shades = values or [None] * len(repeat.tokens)
    return [Shade(text=token.text, value=value) for token, value in zip(repeat.tokens, shades, strict=True)]


def _mean_of(view: views.HeadAblationView, role: str, neuron: str) -> float | None:
    return told.mean(row.activation[neuron] for row in view.rows if row.role == role)
