"""One function a figure of the paper (and two more), from any sweep. What a caption claims follows from the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy import ndarray

from analysis.figures import said
from analysis.figures.data import Figure, Ground, Point
from analysis.grammar import printed
from analysis.ranks import spearman
from analysis.sweep.measures import CLEAN

NO_COUNTS = "This model came without token counts, so nothing is known of its frequency path."
OUTLIERS = "Outliers beyond 1.5 interquartile ranges are not drawn; averages keep them."


def figure(ground: Ground, name: str) -> Figure:
    """One figure as data."""
    made = MAKERS[name](ground)
    if name.startswith("3") and "frequency" not in ground.result.conditions:
        made = replace(made, notes=[NO_COUNTS, *made.notes])
    chosen = name in SETS or (name in OF_ONE and ground.asked is None)
    if chosen and ground.sets.halves is None:
        made = replace(made, notes=[*made.notes, WHOLE])
    return made


WHOLE = "This sweep cannot be halved (one row, or made by an earlier version): what was chosen is shown by luck too."


def _prediction(g: Ground) -> Figure:
    return Figure(
        title="What ablation does to the prediction, and to its entropy",
        caption="Each mark is a neuron, ablated over the whole text. To the right the most probable token changes more "
        "often, upwards entropy moves more. Neurons high up on the left move confidence without changing what is "
        f"predicted; the colour says how much of their effect on the loss passes through the final norm. {_ln(g)}",
        kind="scatter",
        x="tokens whose prediction changes (share)",
        y="mean |ΔH| (nats)",
        colour="LN-mediated fraction",
        rows=g.scatter("total.top1_changes", "total.abs_entropy", "ln_fraction", "direct"),
    )


def _norms(g: Ground) -> Figure:
    marked = ""
    if g.ln_mediated:
        norm, var = (
            np.nanmedian(g.column(name)[g.ln_mediated]) / np.nanmedian(g.column(name)) for name in ("norm", "logit_var")
        )
        marked = f" Their median norm is {norm:.2f} x and their median LogitVar {var:.2f} x that of all neurons."
    return Figure(
        title="Norm against LogitVar",
        caption="The length of each neuron's output vector against the variance of its cosines with the token "
        f"directions: low where no token gains much from it. {_ln(g)}{marked}",
        kind="scatter",
        x="‖w_out‖",
        y="LogitVar",
        y_log=True,
        colour="mean |ΔH| (nats)",
        rows=g.scatter("norm", "logit_var", "total.abs_entropy", "direct"),
    )


def _paths(g: Ground) -> Figure:
    return Figure(
        title="The two paths: total effect and the effect around LayerNorm",
        caption="The total effect on the loss against the effect with the LN scale frozen, in place of the paper's "
        "schematic graph. On the diagonal a neuron acts on the logits directly; below it, part of its effect is the "
        f"scale's. {_ln(g)}",
        kind="scatter",
        x="total: mean |Δ loss| (nats)",
        y="LN frozen: mean |Δ loss| (nats)",
        x_log=True,
        y_log=True,
        diagonal=True,
        colour="LN-mediated fraction",
        rows=g.scatter("total.abs_loss", "direct.abs_loss", "ln_fraction", "direct"),
    )


def _boxes(g: Ground) -> Figure:
    return Figure(
        title="Total and LN-frozen effect on the loss, token by token",
        caption=f"Boxes over drawn tokens. {_ln(g)}{_lost(g)} {OUTLIERS}",
        kind="box",
        x="neuron",
        y="|Δ loss| (nats)",
        rows=g.boxes(("total", "LN frozen"), "direct"),
        notes=g.standings("direct"),
    )


def _spectrum(g: Ground) -> Figure:
    spectrum = [
        Point("singular value / largest", f"σ {i}", float(i), float(value / g.singular.max()))
        for i, value in enumerate(g.singular)
    ]
    chosen = g.ln_mediated[:3]
    some = "the first three of these" if len(g.ln_mediated) > 3 else "these"
    lines = [(g.name(place), g.cosines(place)) for place in chosen]
    if chosen:
        lines.append((f"random direction, norm of {g.name(chosen[0])}", g.direction(chosen[0])))
    inside = [f"{name} {float((values[-g.k :] ** 2).sum()):.2f}" for name, values in lines]
    last = "last direction lies" if g.k == 1 else f"last {g.k} directions lie"
    where = f" In the {last}, of the squared length: {', '.join(inside)}." if inside else ""
    return Figure(
        title="Singular values of W_U, and where the neurons write",
        caption="The spectrum of the unembedding, relative to its largest value, and the absolute cosine of output "
        "vectors with each singular vector. What lies in the directions on the right moves the logits least. "
        f"{g.told('direct', f'Drawn are {some}')}{where}",
        kind="lines",
        x="singular vector, by falling singular value",
        y="|cosine|; σ / largest σ",
        rows=[
            *spectrum,
            *(Point(n, f"vector {i}", float(i), float(v)) for n, values in lines for i, v in enumerate(values)),
        ],
        notes=[g.null_space] if g.null_space else [],
    )


def _null_space(g: Ground) -> Figure:
    return Figure(
        title="LN-mediated effect against ρ, the length in the null space",
        caption=f"ρ is a ratio of lengths: of the output vector's part in the last {_singular(g.k)} of W_U, "
        "and of the whole vector; ρ = 0.96 is 92 % of the squared length. What lies there "
        f"moves the logits through the norm. {_ln(g)}{_together(g, 'rho', 'ln_fraction', 'Over all neurons')}",
        kind="scatter",
        x=f"ρ (k = {g.k})",
        y="LN-mediated fraction, 1 − DE/TE",
        colour="‖w_out‖",
        rows=g.scatter("rho", "ln_fraction", "norm", "direct"),
    )


def _null_space_entropy(g: Ground) -> Figure:
    made = _null_space(g)
    return replace(
        made,
        title="The same, coloured by the change of entropy",
        caption=made.caption + " The colour is the mean absolute change of entropy when the neuron is ablated.",
        colour="mean |ΔH| (nats)",
        rows=g.scatter("rho", "ln_fraction", "total.abs_entropy", "direct"),
    )


def _frequency(g: Ground) -> Figure:
    return Figure(
        title="Frequency-mediated effect against the change of KL to the unigram distribution",
        caption="In the upper right stand neurons whose ablation moves the prediction towards or away from the unigram "
        "distribution, and most of whose effect goes when the frequency component is frozen. "
        f"{g.told('frequency')}",
        kind="scatter",
        x="mean |Δ KL(P_freq ‖ P)| (nats)",
        y="frequency-mediated fraction, 1 − DE_freq/TE",
        x_log=True,
        colour="mean |ΔH| (nats)",
        rows=g.scatter("total.abs_kl_unigram", "frequency_fraction", "total.abs_entropy", "frequency"),
    )


def _frequency_boxes(g: Ground) -> Figure:
    return Figure(
        title="Total and frequency-frozen effect on the loss, token by token",
        caption=f"Boxes over drawn tokens. {g.told('frequency')} {OUTLIERS}",
        kind="box",
        x="neuron",
        y="|Δ loss| (nats)",
        rows=g.boxes(("total", "frequency frozen"), "frequency"),
        notes=g.standings("frequency"),
    )


def _anticorrelation(g: Ground) -> Figure:
    entropy, kl = (g.result.sample_clean[CLEAN.index(name)] for name in ("entropy", "kl_unigram"))
    r = said.correlation(entropy, kl, g.rows_drawn)
    told = "" if r is None else f"Pearson's r = {printed(r.value, '.3f')} over {r.n} tokens, {r.told('.3f')}"
    senses = {
        -1: "go against each other: where it is unsure it is nearer to token frequency",
        1: "rise together: where it is unsure it is further from token frequency",
        0: "have no clear relation",
    }
    return Figure(
        title="Entropy against distance from the unigram distribution",
        caption="The clean model at the drawn tokens."
        + ("" if r is None else f" Here entropy and KL {senses[r.sign]} ({told})."),
        kind="scatter",
        x="KL(P_freq ‖ P) (nats)",
        y="entropy (nats)",
        rows=g.tokens(kl, entropy, where=np.ones_like(g.showing)),
        notes=[f"{told}."] if told else [],
    )


def _by_activation(g: Ground) -> Figure:
    i, _ = g.neuron
    activation, change, where = _sampled(g, "activation"), _sampled(g, "total.entropy"), g.of_neuron
    distance = np.abs(activation - g.result.column("baseline")[i])
    r = said.rank_correlation(distance[where], np.abs(change[where]), g.rows_drawn[where])
    together = (
        f" |ΔH| and the distance of the activation from its baseline have a rank correlation of "
        f"{printed(r.value, '.2f')} ({r.n} tokens, {r.told('.2f')})."
        if r is not None
        else ""
    )
    return Figure(
        title=f"{g.name(i)}: activation and the change of entropy",
        caption=f"Each mark is a drawn token. {_the_one(g)} Ablation moves the activation to its baseline; colour is "
        f"the clean entropy there.{together}",
        kind="scatter",
        x="activation",
        y="ΔH when ablated (nats)",
        colour="clean entropy (nats)",
        rows=g.tokens(activation, change, g.result.sample_clean[0], where=where),
    )


def _by_kl(g: Ground) -> Figure:
    i, _ = g.neuron
    kl, entropy = _sampled(g, "total.kl_unigram"), _sampled(g, "total.entropy")
    return Figure(
        title=f"{g.name(i)}: entropy and distance from the unigram distribution, under ablation",
        caption="Each mark is a drawn token: how far ablation moves the prediction from the unigram distribution, and "
        f"what it does to the entropy. {_the_one(g)} Colour is the activation.",
        kind="scatter",
        x="Δ KL(P_freq ‖ P) when ablated (nats)",
        y="ΔH when ablated (nats)",
        colour="activation",
        rows=g.tokens(kl, entropy, _sampled(g, "activation"), where=g.of_neuron),
    )


def _by_loss(g: Ground) -> Figure:
    i, _ = g.neuron
    before, change, where = g.result.sample_clean[1], _sampled(g, "total.loss"), g.of_neuron
    return Figure(
        title=f"{g.name(i)}: loss before, and its change",
        caption=f"Each mark is a drawn token. {_the_one(g)}"
        + said.hedging(before[where].astype(float), change[where].astype(float), g.rows_drawn[where]),
        kind="scatter",
        x="clean loss (nats)",
        y="Δ loss when ablated (nats)",
        colour="ΔH (nats)",
        colour_centred=True,
        rows=g.tokens(before, change, _sampled(g, "total.entropy"), where=where),
    )


def _dropout(g: Ground) -> Figure:
    runs, note = {"this model": g.singular}, "No run with dropout lies beside this model: only its own is drawn."
    title, why = "The spectrum of W_U", ""
    if g.dropout is not None:
        runs = dict(zip(("without dropout", "with dropout"), g.dropout.spectra, strict=True))
        note = f"One recipe, trained twice on the same {g.dropout.tokens:,} tokens."
        title = "The spectrum of W_U with and without dropout"
        why = " Dropout strikes every direction alike, so a signal kept in few of them is less safe."
    fall = [f"{name}: {_fall(values, g.k)}" for name, values in runs.items()]
    floor = 1e-6 * g.singular.max()
    last = f"Mean of the last {g.k} values" if g.k > 1 else "The last value"
    return Figure(
        title=title,
        caption="The singular values of the folded unembedding. Where a curve falls at its end, the model keeps a null "
        f"space: directions that move no logit.{why} {last} over the median of those that are not zero: "
        f"{', '.join(fall)}.",
        kind="lines",
        x="singular vector",
        y="singular value",
        y_log=True,
        rows=[
            Point(name, f"σ {i}", float(i), float(value))
            for name, values in runs.items()
            for i, value in enumerate(values)
            if value > floor
        ],
        notes=[note, *_zeros(g)],
    )


def _fall(values: ndarray, k: int) -> str:
    return f"{float(values[-k:].mean() / np.median(values[values > 0])):.2g}"


def _effects_with_intervals(g: Ground) -> Figure:
    return Figure(
        title="Total and direct effect with their intervals",
        caption=f"Mean absolute change of the loss. {_ln(g)} Whiskers are 95 % bootstrap intervals over documents; of "
        "a neuron's controls, random directions of its norm, the bar is the median and the whiskers the range, at the "
        "drawn tokens alone; the notes compare both there.",
        kind="bars",
        x="neuron",
        y="mean |Δ loss| (nats)",
        rows=g.bars(("total", "LN frozen"), "direct"),
        notes=g.standings("direct"),
    )


def _alignment(g: Ground) -> Figure:
    return Figure(
        title="Alignment with the frequency direction against the frequency-mediated effect",
        caption="The cosine of a neuron's direct logit effect with the frequency direction, from weights alone, "
        f"against what ablation over text finds. {g.told('frequency')}"
        f"{_together(g, 'frequency_alignment', 'frequency_fraction', 'Over all neurons', size=True)}",
        kind="scatter",
        x="cosine with the frequency direction",
        y="frequency-mediated fraction, 1 − DE_freq/TE",
        colour="mean |Δ KL| (nats)",
        rows=g.scatter("frequency_alignment", "frequency_fraction", "total.abs_kl_unigram", "frequency"),
    )


def _zeros(g: Ground) -> list[str]:
    """What a logarithmic axis cannot show."""
    exact = int((g.singular == 0).sum())
    return [f"Not drawn: {exact} singular values that are exactly zero. {g.null_space}"] if exact else []


def _singular(k: int) -> str:
    return "singular direction" if k == 1 else f"{k} singular directions"


def _the_one(g: Ground) -> str:
    """Which neuron it is, and where it was chosen."""
    where = g.of_halves() if g.asked is None else ""
    return f"The neuron is {g.neuron[1]}{', ' if where else ''}{where}."


def _ln(g: Ground) -> str:
    return g.told("direct")


def _sampled(g: Ground, field: str) -> ndarray:
    """Of the one neuron, at the drawn tokens."""
    found: ndarray = g.result.sampled(field)[:, g.neuron[0]]
    return found


def _lost(g: Ground) -> str:
    """How much of their effect the set and its controls lose with the scale frozen."""
    effects = g.controls(g.ln_mediated, "direct") if g.ln_mediated else None
    if effects is None:
        return ""
    own, others = (1 - values[1].mean(-1) / values[0].mean(-1) for values in (effects.own, effects.others))
    return (
        f" With the LN scale frozen these neurons lose {_percent(own)} of their effect (median), random "
        f"directions of their norms {_percent(others)}."
    )


def _percent(shares: ndarray) -> str:
    """Their median; never -0 %."""
    return f"{round(100 * float(np.median(shares))) + 0:.0f} %"


def _together(g: Ground, x: str, y: str, over: str, *, size: bool = False) -> str:
    """Spearman's correlation of two columns, as a sentence."""
    a, b = g.column(x), g.column(y)
    a = np.abs(a) if size else a
    known = np.isfinite(a) & np.isfinite(b)
    r = spearman(a[known].astype(float), b[known].astype(float))
    return "" if r is None else f" {over} the rank correlation is {printed(r, '.2f')} (n = {int(known.sum())})."


MAKERS: dict[str, Callable[[Ground], Figure]] = {
    "1": _prediction,
    "2a": _norms,
    "2b": _paths,
    "2c": _boxes,
    "2d": _spectrum,
    "2e": _null_space,
    "2f": _null_space_entropy,
    "3a": _frequency,
    "3b": _frequency_boxes,
    "3c": _anticorrelation,
    "4a": _by_activation,
    "4b": _by_kl,
    "4c": _by_loss,
    "6": _dropout,
    "7": _effects_with_intervals,
    "8": _alignment,
}
OF_ONE = ("4a", "4b", "4c")
SETS = ("1", "2a", "2b", "2c", "2d", "2e", "2f", "3a", "3b", "7", "8")
