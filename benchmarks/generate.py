"""What it costs to be told of every written token: `python -m benchmarks.generate [FOLDER]`.

Beside transformers' own `generate` of the same model, greedy, in one run: as here without the table of neurons, and
with it (the three largest changes of entropy at every token). The runs take turns, and each counts at its fastest, so
that a busy machine slows all alike; the processor's time, on one thread. FOLDER: a model in Hugging Face format beside
the bundled one; by default SmolLM2, where `nullscope get smollm2-135m` has put it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from analysis.effects import Engine
from analysis.frequency import load_counts
from analysis.generate import Neurons, generate
from analysis.kernels import choose
from analysis.kernels.choice import has_compiler
from analysis.model import load
from analysis.registry import LISTED, ModelSpec, bundled, folder_spec
from analysis.shipped import shipped
from analysis.trace import trace
from app.core.residency import packages
from app.core.settings import Settings
from benchmarks.measure import finish, table

PROMPT = "The old man shook his head and said that"
TEXT = PROMPT + " he had never seen anything like it in all his years at sea, and that the boy should go home."
TOKENS, ROUNDS, NEURONS = 40, 4, 3
SMOLLM2 = "smollm2-135m"
WITHOUT, WITH = "without the table", f"with the {NEURONS} largest"
ALLOWED = {WITHOUT: 1.10, WITH: 1.5}


def measure(spec: ModelSpec, folder: Path, counts: Path | None) -> dict[str, Any]:
    """Milliseconds a token, and how often those of transformers."""
    model = load(spec, folder=folder)
    unigram = load_counts(counts, d_vocab=model.d_vocab) if counts is not None and counts.is_file() else None
    backend = choose("compiled" if has_compiler() else "eager", wait=True)
    engine = Engine.build(model.readout, unigram=unigram, backend=backend)
    ids = model.encode(PROMPT)
    n = min(TOKENS, model.n_ctx - len(ids))
    baseline = trace(model, model.encode(TEXT)).last.activations.mean(0)
    theirs, given = model.transformers, torch.tensor([ids])

    def of_transformers() -> Any:
        return theirs.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=n,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )

    def told(neurons: Neurons | None = None) -> list[int]:
        steps = generate(model, ids, max_new_tokens=n, unigram=unigram, neurons=neurons)
        return [step.token_id for step in steps]

    ways: dict[str, Callable[[], Any]] = {
        "transformers": of_transformers,
        WITHOUT: told,
        WITH: lambda: told(Neurons(engine, baseline, NEURONS)),
    }
    assert told() == of_transformers()[0, len(ids) :].tolist(), "the texts are not the same"
    best = {name: 1e3 * each / n for name, each in _side_by_side(ways).items()}
    return {
        "tokens": n,
        "kept_rows": engine.rows is not None,
        "ms": best,
        "times": {name: best[name] / best["transformers"] for name in ALLOWED},
    }


def _side_by_side(ways: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """The least processor time of each in seconds, one round after another."""
    best = dict.fromkeys(ways, float("inf"))
    for number in range(1 + ROUNDS):
        for name, run in ways.items():
            start = time.process_time()
            run()
            if number:  # the first one warms
                best[name] = min(best[name], time.process_time() - start)
    return best


def main() -> None:
    torch.set_num_threads(1)
    demo = bundled()
    assert demo.folder is not None
    models = {"the bundled model": (demo, demo.folder, demo.counts)}
    if sys.argv[1:]:
        spec = folder_spec(Path(sys.argv[1]))
        models[spec.key] = (spec, Path(sys.argv[1]), spec.counts)
    elif (folder := packages.local(LISTED[SMOLLM2], Settings().data_dir)) is not None:
        models[SMOLLM2] = (LISTED[SMOLLM2], folder, shipped("models") / SMOLLM2 / "unigrams.npy")
    results = {name: measure(*given) for name, given in models.items()}
    table(
        f"A token written, milliseconds of one core (greedy, {TOKENS} tokens, KL to the unigram told)",
        ["model", "transformers' generate", *(f"{name} (at most {most:g} times)" for name, most in ALLOWED.items())],
        [
            [name, r["ms"]["transformers"], *(f"{r['ms'][way]:.3g}, {r['times'][way]:.2f} times" for way in ALLOWED)]
            for name, r in results.items()
        ],
    )
    finish("generate", {"threads": 1, "models": results})


if __name__ == "__main__":
    main()
