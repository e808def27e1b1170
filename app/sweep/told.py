"""A finished sweep as a link tells it."""

from typing import Any

from app.core import told
from app.core.format import num
from app.core.told import Told
from app.sweep.view import KeptSweep

COLUMNS = {
    "Neuron": "neuron",
    "mean |Δ loss|": "total.abs_loss",
    "with the LN scale frozen": "direct.abs_loss",
    "mean |Δ entropy|": "total.abs_entropy",
    "through the LN scale": "ln_fraction",
}
FIRST = 12  # rows that a link shows; the whole table stands below


def of_sweep(view: KeptSweep, options: dict[str, Any]) -> Told:
    """The neuron that changes the entropy most, over how many tokens."""
    rows = sorted(view.rows, key=lambda row: -(row.total.abs_entropy or 0.0))
    first = f"; of those stored {rows[0].neuron} changes the entropy most, by {num(rows[0].total.abs_entropy)} nats on "
    entropy = (view.clean or {}).get("entropy")
    return Told(
        caption=f"{view.n_neurons} neurons ablated one by one at {view.n_tokens} tokens"
        + (f" (mean entropy {num(entropy, 2)} nats)" if entropy is not None else "")
        + (f"{first}average." if rows else "."),
        interventions=[f"each neuron by itself: activation set to its baseline ({options['baseline']})"]
        if "baseline" in options
        else [],
        **told.table(COLUMNS, rows[:FIRST], "The first neurons"),
    )
