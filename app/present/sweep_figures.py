"""The paper's figures from any sweep, as data: one function a figure, each with its caption in our own words."""

from collections.abc import Callable
from typing import Any

import numpy as np

from analysis.sweep.measures import CLEAN
from app.present.plain import number
from app.present.sweep_ground import Ground
from app.views.sweep import FigureView, Point

Figure = Callable[[Ground], dict[str, Any]]


def figure(ground: Ground, name: str) -> FigureView:
    """One figure as data."""
    notes = []
    if name.startswith("3") and "frequency" not in ground.result.conditions:
        notes.append("This model came without token counts, so nothing is known of its frequency path.")
    made = MAKERS[name](ground)
    made["notes"] = [*notes, *made.get("notes", [])]
    return FigureView(name=name, sweep=ground.sweep, model=ground.model, **made)


def _prediction(g: Ground) -> dict[str, Any]:
    return {
        "title": "What ablation does to the prediction, and to its entropy",
        "caption": "Each mark is a neuron, ablated over the whole text. To the right the most probable token "
        "changes more "
        "often, upwards entropy moves more. Neurons high up on the left regulate confidence without changing what is "
        "predicted; the colour says how much of their effect on the loss passes through the final LayerNorm.",
        "kind": "scatter",
        "x": "tokens whose prediction changes (share)",
        "y": "mean |ΔH| (nats)",
        "colour": "LN-mediated fraction",
        "rows": g.scatter(
            "total.top1_changes", "total.abs_entropy", "ln_fraction", g.strongest("direct"), "entropy neurons"
        ),
    }


def _norms(g: Ground) -> dict[str, Any]:
    return {
        "title": "Norm against LogitVar",
        "caption": "The length of each neuron's output vector against the variance of its cosines with the "
        "token directions. "
        "An entropy neuron spends norm where no single token gains from it.",
        "kind": "scatter",
        "x": "‖w_out‖",
        "y": "LogitVar",
        "y_log": True,
        "colour": "mean |ΔH| (nats)",
        "rows": g.scatter("norm", "logit_var", "total.abs_entropy", g.strongest("direct"), "entropy neurons"),
    }


def _paths(g: Ground) -> dict[str, Any]:
    return {
        "title": "The two paths: total effect and the effect around LayerNorm",
        "caption": "The total effect on the loss against the effect with the LN scale frozen, in place of the paper's "
        "schematic graph. On the diagonal a neuron acts on the logits directly; below it, part of its effect is "
        "the scale's.",
        "kind": "scatter",
        "x": "total: mean |Δ loss| (nats)",
        "y": "LN frozen: mean |Δ loss| (nats)",
        "x_log": True,
        "y_log": True,
        "diagonal": True,
        "colour": "LN-mediated fraction",
        "rows": g.scatter("total.abs_loss", "direct.abs_loss", "ln_fraction", g.strongest("direct"), "entropy neurons"),
    }


def _boxes(g: Ground) -> dict[str, Any]:
    chosen = g.strongest("direct")
    return {
        "title": "Total and LN-frozen effect on the loss, token by token",
        "caption": "Boxes over the drawn tokens: entropy neurons lose much of their effect when the LN scale "
        "may not move, "
        "norm-matched random neurons do not. Outliers beyond 1.5 interquartile ranges are not drawn; averages "
        "keep them.",
        "kind": "box",
        "x": "neuron",
        "y": "|Δ loss| (nats)",
        "rows": g.boxes({"total": "total.loss", "LN frozen": "direct.loss"}, chosen, "entropy neurons"),
    }


def _spectrum(g: Ground) -> dict[str, Any]:
    spectrum = [
        Point(series="singular value / largest", label=f"σ {i}", x=i, y=number(value / g.singular.max()))
        for i, value in enumerate(g.singular)
    ]
    chosen = g.strongest("direct")[:3]
    lines = [
        Point(series=g.name(place), label=f"vector {i}", x=i, y=number(value))
        for place in chosen + g.controls(chosen)[:1]
        for i, value in enumerate(g.cosines(place))
    ]
    return {
        "title": "Singular values of W_U, and where the neurons write",
        "caption": "The spectrum of the unembedding, relative to its largest value, and the absolute cosine of "
        "output vectors "
        "with each singular vector: three entropy neurons and a norm-matched random one (last in the legend). "
        "Entropy neurons write into the "
        "directions on the right, from which hardly any logit can be changed.",
        "kind": "lines",
        "x": "singular vector, by falling singular value",
        "y": "|cosine|; σ / largest σ",
        "rows": spectrum + lines,
    }


def _null_space(g: Ground) -> dict[str, Any]:
    return {
        "title": "LN-mediated effect against the share in the null space",
        "caption": f"ρ is the share of the output vector's length in the last {g.k} singular directions of W_U. "
        f"What lies "
        "there can act through the norm only, so neurons with a large ρ and a real effect are LN-mediated.",
        "kind": "scatter",
        "x": f"ρ (k = {g.k})",
        "y": "LN-mediated fraction, 1 − DE/TE",
        "colour": "‖w_out‖",
        "rows": g.scatter("rho", "ln_fraction", "norm", g.strongest("direct"), "entropy neurons"),
    }


def _null_space_entropy(g: Ground) -> dict[str, Any]:
    made = _null_space(g)
    return made | {
        "title": "The same, coloured by the change of entropy",
        "caption": made["caption"] + " The colour is the mean absolute change of entropy when the neuron is ablated.",
        "colour": "mean |ΔH| (nats)",
        "rows": g.scatter("rho", "ln_fraction", "total.abs_entropy", g.strongest("direct"), "entropy neurons"),
    }


def _frequency(g: Ground) -> dict[str, Any]:
    return {
        "title": "Frequency-mediated effect against the change of KL to the unigram distribution",
        "caption": "Token-frequency neurons stand in the upper right: ablating them moves the prediction "
        "towards or away "
        "from the unigram distribution, and most of their effect goes when the frequency component is frozen.",
        "kind": "scatter",
        "x": "mean |Δ KL(P_freq ‖ P)| (nats)",
        "y": "frequency-mediated fraction, 1 − DE_freq/TE",
        "x_log": True,
        "colour": "mean |ΔH| (nats)",
        "rows": g.scatter(
            "total.abs_kl_unigram",
            "frequency_fraction",
            "total.abs_entropy",
            g.strongest("frequency"),
            "frequency neurons",
        ),
    }


def _frequency_boxes(g: Ground) -> dict[str, Any]:
    fields = {"total": "total.loss", "frequency frozen": "frequency.loss"}
    return {
        "title": "Total and frequency-frozen effect on the loss, token by token",
        "caption": "Boxes over the drawn tokens for token-frequency neurons and norm-matched random ones. "
        "Outliers beyond "
        "1.5 interquartile ranges are not drawn.",
        "kind": "box",
        "x": "neuron",
        "y": "|Δ loss| (nats)",
        "rows": g.boxes(fields, g.strongest("frequency"), "frequency neurons"),
    }


def _anticorrelation(g: Ground) -> dict[str, Any]:
    entropy, kl = (g.result.sample_clean[CLEAN.index(name)] for name in ("entropy", "kl_unigram"))
    known = np.isfinite(entropy) & np.isfinite(kl)
    varies = known.sum() > 2 and entropy[known].std() > 0 and kl[known].std() > 0
    r = float(np.corrcoef(entropy[known], kl[known])[0, 1]) if varies else float("nan")
    return {
        "title": "Entropy against distance from the unigram distribution",
        "caption": "The clean model at the drawn tokens: where it is unsure it falls back on token frequency, "
        "so entropy and "
        "KL go against each other.",
        "kind": "scatter",
        "x": "KL(P_freq ‖ P) (nats)",
        "y": "entropy (nats)",
        "rows": g.tokens(kl, entropy),
        "notes": [f"Pearson's r = {r:.3f} over {int(known.sum())} tokens."] if varies else [],
    }


def _by_activation(g: Ground) -> dict[str, Any]:
    r, i = g.result, g.neuron
    return {
        "kind": "scatter",
        "rows": g.tokens(r.sampled("activation")[:, i], r.sampled("total.entropy")[:, i], r.sample_clean[0]),
        "title": f"{g.name(i)}: activation and the change of entropy",
        "caption": "Each mark is a drawn token. The further the activation lies from the baseline, the more "
        "ablating the neuron "
        "moves the entropy; colour is the clean entropy there.",
        "x": "activation",
        "y": "ΔH when ablated (nats)",
        "colour": "clean entropy (nats)",
    }


def _by_kl(g: Ground) -> dict[str, Any]:
    r, i = g.result, g.neuron
    return {
        "kind": "scatter",
        "rows": g.tokens(
            r.sampled("total.kl_unigram")[:, i], r.sampled("total.entropy")[:, i], r.sampled("activation")[:, i]
        ),
        "title": f"{g.name(i)}: entropy and distance from the unigram distribution, under ablation",
        "caption": "Each mark is a drawn token: how far ablation moves the prediction from the unigram "
        "distribution, and what "
        "it does to the entropy. Colour is the activation.",
        "x": "Δ KL(P_freq ‖ P) when ablated (nats)",
        "y": "ΔH when ablated (nats)",
        "colour": "activation",
    }


def _by_loss(g: Ground) -> dict[str, Any]:
    r, i = g.result, g.neuron
    return {
        "kind": "scatter",
        "rows": g.tokens(r.sample_clean[1], r.sampled("total.loss")[:, i], r.sampled("total.entropy")[:, i]),
        "title": f"{g.name(i)}: loss before, and its change",
        "caption": "Each mark is a drawn token. A neuron that hedges costs a little where the model is right "
        "and saves much "
        "where it is wrong: ablating it then lowers small losses and raises large ones.",
        "x": "clean loss (nats)",
        "y": "Δ loss when ablated (nats)",
        "colour": "ΔH (nats)",
        "colour_centred": True,
    }


def _dropout(g: Ground) -> dict[str, Any]:
    runs, note = {"this model": g.singular}, "No run with dropout lies beside this model: only its own is drawn."
    if g.dropout is not None:
        runs = dict(zip(("without dropout", "with dropout"), g.dropout.spectra, strict=True))
        note = f"One recipe, trained twice on the same {g.dropout.tokens:,} tokens."
    rows = [
        Point(series=name, label=f"σ {i}", x=i, y=number(value))
        for name, values in runs.items()
        for i, value in enumerate(values)
    ]
    return {
        "title": "The spectrum of W_U with and without dropout",
        "caption": "The singular values of the folded unembedding. Where the curve falls at its end, the model keeps a "
        "null space: "
        "directions that move no logit, into which entropy neurons write. Dropout strikes every direction alike, so a "
        "signal kept in few of them is less safe.",
        "kind": "lines",
        "x": "singular vector",
        "y": "singular value",
        "y_log": True,
        "rows": [row for row in rows if row.y is not None and row.y > 1e-6 * g.singular.max()],
        "notes": [note],
    }


def _effects_with_intervals(g: Ground) -> dict[str, Any]:
    chosen = g.strongest("direct")
    rows = []
    for kind, places in (("", chosen), (" (random)", g.controls(chosen))):
        for place in places:
            for series, name in (("total", "total.abs_loss"), ("LN frozen", "direct.abs_loss")):
                value, low, high = (number(g.column(f"{name}{end}")[place]) for end in ("", ".low", ".high"))
                rows.append(
                    Point(series=series, label=g.name(place), x=g.name(place) + kind, y=value, low=low, high=high)
                )
    return {
        "title": "Total and direct effect with their intervals",
        "caption": "Mean absolute change of the loss for the strongest entropy neurons and norm-matched random "
        "ones; whiskers "
        "are 95 % bootstrap intervals over sequences.",
        "kind": "bars",
        "x": "neuron",
        "y": "mean |Δ loss| (nats)",
        "rows": rows,
    }


def _alignment(g: Ground) -> dict[str, Any]:
    return {
        "title": "Alignment with the frequency direction against the frequency-mediated effect",
        "caption": "The cosine of a neuron's direct logit effect with the frequency direction, from weights "
        "alone, against "
        "what ablation over text finds. Marked: the strongest token-frequency neurons.",
        "kind": "scatter",
        "x": "cosine with the frequency direction",
        "y": "frequency-mediated fraction, 1 − DE_freq/TE",
        "colour": "mean |Δ KL| (nats)",
        "rows": g.scatter(
            "frequency_alignment",
            "frequency_fraction",
            "total.abs_kl_unigram",
            g.strongest("frequency"),
            "frequency neurons",
        ),
    }


MAKERS: dict[str, Figure] = {
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
