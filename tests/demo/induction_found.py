"""What repeated text does to the bundled model: computed, written down as found, and asserted by test_induction.

python -m tests.demo.induction_found        writes models/demo/induction.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from analysis import nullspace
from analysis.controls import N_CONTROLS, standing
from analysis.induction import clipped, heads
from analysis.induction.differences import differences
from analysis.induction.measure import Measured, measure
from analysis.induction.sequences import PAPER_LENGTH, Repeated, longest_unit, natural_units, repeat
from analysis.induction.steps import complete
from analysis.model import Model, load
from analysis.registry import BUNDLED_FOLDER, bundled
from analysis.types import NeuronId

FILE = BUNDLED_FOLDER / "induction.json"
ROWS, SEED, TOP = 32, 0, 3


def sample_rows(model: Model, sample: Path) -> Repeated:
    """The paper's synthetic set from the sample text, as long as the context allows."""
    documents = [json.loads(line)["text"] for line in sample.read_text("utf-8").splitlines()]
    length = min(PAPER_LENGTH, longest_unit(model.n_ctx, copies=2, separator=0, bos=True))
    ids = [model.encode(text, prepend_bos=False) for text in documents]
    return repeat(natural_units(ids, length=length, n_rows=ROWS, seed=SEED), bos=model.bos_id)


@torch.inference_mode()
def found(neurons: Sequence[str] | None = None) -> dict[str, Any]:
    """Every figure, from the weights. neurons: those to clip, in place of the first of the ranking."""
    spec = bundled()
    assert spec.sample is not None
    model = load(spec)
    repeated = sample_rows(model, spec.sample)
    measured = complete(measure(model, repeated.tokens))
    changed = differences(model.readout, measured.activations, repeated)
    spectrum = nullspace.spectrum(model.readout)
    rho = nullspace.rho(model.write_rows(model.last_layer), spectrum.basis(spectrum.k))
    order = changed.weighted.abs().argsort(descending=True).tolist()
    top = order[:TOP] if neurons is None else [NeuronId.parse(name).index for name in neurons]
    following = next(index for index in order if index not in top)
    scores = complete(heads.head_scores(model, heads.score_rows(model))).scores["induction"]
    best = scores.flatten().argsort(descending=True)[:TOP].tolist()
    return {
        "weights_sha256": model.weights_sha256,
        "command": "python -m tests.demo.induction_found",
        "rows": len(repeated.tokens),
        "length": repeated.length,
        "seed": SEED,
        "entropy": _halves(measured.metrics.entropy, repeated),
        "loss": _halves(measured.metrics.loss, repeated),
        "ln_scale": _halves(measured.metrics.ln_scale, repeated),
        "heads": [
            {"head": f"{i // model.n_heads}.{i % model.n_heads}", "score": float(scores.flatten()[i])} for i in best
        ],
        "neurons": [
            {"neuron": f"{model.last_layer}.{i}", "weighted": float(changed.weighted[i]), "rho": float(rho[i])}
            for i in top
        ],
        "following": {
            "neuron": f"{model.last_layer}.{following}",
            "weighted": float(changed.weighted[following]),
        },
        "clips": [_clip(model, measured, repeated, [i]) for i in top] + [_clip(model, measured, repeated, top)],
    }


def _halves(values: torch.Tensor, repeated: Repeated) -> dict[str, float]:
    first, second = (float(values[:, repeated.copy(index)].double().nanmean()) for index in (0, 1))
    return {"first": first, "second": second}


def _clip(model: Model, measured: Measured, repeated: Repeated, indices: list[int]) -> dict[str, Any]:
    """H_post / H and the change of loss on the repeats, total and frozen, and where it stands among the controls."""
    neurons = [NeuronId(model.last_layer, index) for index in indices]
    cut = clipped.clip(model, measured, repeated, neurons)
    where = repeated.repeats
    ratios = [
        float(control.ratio.mean())
        for control in complete(clipped.controls(model, measured, repeated, neurons, seed=SEED))
    ]
    ratio = float(cut.ratio().mean[where].mean())
    stands = standing(ratio, ratios)
    assert stands is not None
    return {
        "neurons": list(map(str, neurons)),
        "ratio": ratio,
        "ratio_frozen": float(cut.ratio(frozen=True).mean[where].mean()),
        "loss_change": float(cut.loss_change().mean[where].nanmean()),
        "controls": {
            "n": N_CONTROLS,
            "lowest": min(ratios),
            "highest": max(ratios),
            "rank": stands.rank,
            "p": stands.p,
        },
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps(found(), indent=1) + "\n", "utf-8")
    print(FILE.read_text("utf-8"))
