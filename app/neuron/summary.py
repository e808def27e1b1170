"""A neuron in one sentence, made from the evidence that there is: it says less where there is less."""

from app.core.format import num, percent
from app.neuron.view import NeuronView

CALLED = {
    "entropy": "an entropy neuron",
    "token-frequency": "a token-frequency neuron",
    "prediction": "a prediction neuron",
    "suppression": "a suppression neuron",
    "partition": "a partition neuron",
}
BASELINES = {"mean": "set to its mean", "zero": "set to 0"}


def summary(view: NeuronView) -> str:
    """Label or none, where it writes beside random directions, and what a sweep has measured."""
    labels = [label for label in view.weights.labels if label.holds]
    if labels:
        basis = "weights and a sweep" if any(each.basis == "weights and sweep" for each in labels) else "weights alone"
        called = f"{view.neuron} is {' and '.join(CALLED[label.name] for label in labels)} by its {basis}"
    else:
        called = f"{view.neuron} carries no label"
    return f"{called}: {_writing(view)}{_measured(view)}."


def _writing(view: NeuronView) -> str:
    rho, k = view.weights.rho or 0.0, view.k
    share = view.chance.rms**2
    chance = percent(share, 0 if share >= 0.01 else 1)
    where = "the one direction" if k == 1 else f"the {k} directions"
    return (
        f"{percent(rho**2, 0)} of its squared length lies in {where} that the unembedding reads least "
        f"({chance} of a random direction)"
    )


def _measured(view: NeuronView) -> str:
    found, sweep = view.weights.sweep, view.evidence.sweep
    if found is None or sweep is None or found.mean_abs_d_entropy is None:
        return "; no sweep has measured what it does in texts" if view.layer == view.n_layers - 1 else ""
    done = BASELINES.get(sweep.baseline, "ablated")
    said = (
        f", and {done} it moves the entropy by {num(found.mean_abs_d_entropy)} nats on average over {sweep.tokens:,} "
        "tokens"
    )
    if found.ln_mediated_fraction is not None:
        said += f", {percent(found.ln_mediated_fraction, 0)} of its effect on the loss through the LN scale"
    return said
