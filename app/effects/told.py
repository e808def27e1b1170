"""What a shared link says of effects at a token, over a text, of a set and over a dose, of LN scale and lens."""

from app.core import told
from app.core.format import num, percent, signed
from app.core.request import EffectsRequest
from app.core.told import Told, quoted
from app.core.view import EffectsView
from app.effects import request as requests
from app.effects import view as views

HEAT = {"Neuron": "neuron", "mean": "mean", "mean |·|": "mean_abs", "max |·|": "max_abs"}
LEDGER = {"Component": "component", "Share of s²": "share", "in the null space": "null", "in the rest": "row"}
METRICS = {"d_entropy": "the entropy", "d_loss": "the loss", "d_kl_unigram": "the KL to the unigram distribution",
           "kl": "the distribution (KL)"}  # fmt: skip
FIRST = 12  # rows of a table that a link shows; the file's table below has all


def of_effects(view: EffectsView, asked: EffectsRequest) -> Told:
    return Told(
        caption=told.sentence(told.said(view)),
        interventions=told.in_words((), asked.ln_scale),
        position=view.clean.position,
        **told.table(told.EFFECT_COLUMNS, view.rows),
    )


def of_heatmap(view: views.HeatmapView, asked: requests.HeatmapRequest) -> Told:
    """The largest cell, and the first neurons."""
    cells = ((abs(value), row, at) for row in view.rows for at, value in enumerate(row.values) if value is not None)
    _, row, at = max(cells, key=lambda cell: cell[0], default=(0.0, None, None))
    caption = ""
    if row is not None and at is not None:
        part = "" if view.part == "total" else f" ({view.part.replace('_', ' ')})"
        caption = (
            f"Of {view.total} last-layer neurons, each ablated by itself at each of {len(view.tokens)} tokens, "
            f"{row.neuron} changes {METRICS[view.metric]}{part} most among those shown: by "
            f"{signed(row.values[at], 2)} nats after “{quoted(view.tokens[at].text)}” (token {at})."
        )
    about = f"What each does to {METRICS[view.metric]}, over the text"
    return Told(
        caption=caption,
        interventions=told.in_words((), asked.ln_scale),
        position=at,
        **told.table(HEAT, view.rows[:FIRST], about),
    )


def of_joint(view: views.JointView, asked: requests.JointRequest) -> Told:
    together, alone = view.joint.d_entropy.total, view.sum.d_entropy.total
    return Told(
        caption=f"After “{quoted(view.clean.token.text)}” the entropy changes by {signed(together)} nats with "
        f"{told.counted(len(view.rows), 'neuron')} ablated together, by {signed(alone)} as the sum of each alone.",
        interventions=[*told.in_words((), asked.ln_scale), told.set_to(asked.neurons, asked.baseline)],
        position=view.clean.position,
        **told.table(told.EFFECT_COLUMNS, view.rows, "Each of them alone, ablated"),
    )


def of_dose(view: views.DoseView, asked: requests.DoseRequest) -> Told:
    first, last = view.rows[0], view.rows[-1]
    names = ", ".join(neuron.neuron for neuron in view.neurons)
    held = ""
    if first.frozen_entropy is not None and last.frozen_entropy is not None:
        held = f" (with the LN scale held, from {num(first.frozen_entropy, 2)} to {num(last.frozen_entropy, 2)})"
    text = (
        f"With the activation of {names} held from {num(first.dose, 2)} to {num(last.dose, 2)}, the entropy after "
        f"“{quoted(view.clean.token.text)}” goes from {num(first.entropy, 2)} to {num(last.entropy, 2)} nats{held}."
    )
    marked = {"Neuron": "neuron", "Activation here": "activation", "lowest": "low", "highest": "high"}
    return Told(
        caption=text,
        interventions=[*told.in_words((), asked.ln_scale), f"neurons {names}: activation held at each dose in turn"],
        position=view.clean.position,
        **told.table(marked, view.neurons, "Where they stand in this text"),
    )


def of_ledger(view: views.LedgerView, _: requests.LedgerRequest) -> Told:
    parts = sorted(view.rows, key=lambda row: -abs(row.share))
    most = f", the largest part from {parts[0].component} ({percent(parts[0].share / view.total)})" if parts else ""
    return Told(
        caption=f"Before the prediction after “{quoted(view.clean.token.text)}” the squared LN scale is "
        f"{num(view.total, 2)}{most}; {percent(view.null_total / view.total)} of it lies in the {view.k} directions "
        "that the unembedding reads least.",
        position=view.clean.position,
        **told.table(LEDGER, parts[:FIRST], "What the squared LN scale is made of"),
    )


def of_lens(view: views.LensView, _: requests.LensRequest) -> Told:
    """From where on the end's first guess leads after the last token."""
    at, last = len(view.tokens) - 1, view.layers[-1]
    guess = last.top[at][0]
    since = last.name
    for layer in reversed(view.layers):
        if layer.top[at][0].id != guess.id:
            break
        since = layer.name
    return Told(
        caption=f"Read out behind every block, the entropy after “{quoted(view.tokens[at].text)}” goes from "
        f"{num(view.layers[0].entropy[at], 2)} nats ({view.layers[0].name}) to {num(last.entropy[at], 2)} at the end; "
        f"“{quoted(guess.text)}”, which ends first, leads from {since} on.",
        position=at,
    )
