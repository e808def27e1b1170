"""Corpus sweeps: `python -m benchmarks.sweep`. A table, and last one JSON line.

(token, neuron) pairs a second: the sweep's engine against hooked forward passes, one neuron each, in one run
scaling: the same shards in one and in two local processes
memory: peak of the process while it sweeps 1x and 10x the rows
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from analysis import frequency, registry
from analysis import model as models
from analysis.corpus import documents, kept_positions
from analysis.distributed import LocalProcesses, Recipe
from analysis.metrics import entropy, loss
from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.executor import Executor, InProcess
from analysis.sweep.run import run, start
from analysis.sweep.worker import Worker

ROWS, SHARD, HOOKED = 4, 1, 12


def loaded() -> tuple[models.Model, frequency.Unigram]:
    model = models.load(registry.bundled())
    assert model.spec.counts is not None
    return model, frequency.load_counts(model.spec.counts, d_vocab=model.d_vocab)


def seconds(
    model: models.Model, counts: frequency.Unigram, config: SweepConfig, executor: Executor
) -> tuple[float, int]:
    """Time of both passes and the merge, and the pairs they covered."""
    assert model.spec.sample is not None
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        for _ in start(folder, model, counts, config, documents(model.spec.sample), "sample"):
            pass
        began = time.perf_counter()
        *_, last = run(folder, model, counts, executor)
        assert last.result is not None
        return time.perf_counter() - began, last.result.n_tokens * len(last.result.neurons)


@torch.inference_mode()
def hooked(model: models.Model, config: SweepConfig) -> float:
    """Pairs a second of the straightforward way: two forward passes a neuron, total and LN frozen, whole logits
    each."""
    assert model.spec.sample is not None
    text = next(iter(documents(model.spec.sample)))
    row = model.encode(text)[: config.length]
    kept = kept_positions(row, config.token_filter, model.excluded_ids)
    tokens, name = model.tokens(row), f"blocks.{model.last_layer}.mlp.hook_post"
    scale = model.run(tokens, capture=["ln_final.hook_scale"])["ln_final.hook_scale"]
    targets = tokens[0][kept + 1]
    began = time.perf_counter()
    for index in range(HOOKED):

        def ablate(n: torch.Tensor, index: int = index) -> torch.Tensor:
            n = n.clone()
            n[..., index] = 0
            return n

        for frozen in ([], [("ln_final.hook_scale", lambda s: scale.clone())]):
            log_p = model.logits(tokens, hooks=[(name, ablate), *frozen])[0, kept].log_softmax(-1)
            entropy(log_p), loss(log_p, targets)
    return HOOKED * len(kept) / (time.perf_counter() - began)


def peak_megabytes(rows: int) -> float:
    """Of a fresh process that sweeps that many short rows."""
    code = f"import benchmarks.sweep as b; print(b.sweep_rows({rows}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def sweep_rows(rows: int) -> float:
    """Sweep ``rows`` rows of 16 tokens and eight neurons; the peak memory of this process in MB."""
    from analysis.types import NeuronId

    model, counts = loaded()
    chosen = tuple(NeuronId(model.last_layer, index) for index in range(8))
    config = SweepConfig(neurons=chosen, n_rows=rows, length=16, sample_tokens=64, backend="eager").settled(model)
    seconds(model, counts, config, InProcess(Worker.build(model, counts, config)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    torch.set_num_threads(1)
    model, counts = loaded()
    config = SweepConfig(n_rows=ROWS, shard_rows=SHARD, sample_tokens=64).settled(model)
    recipe = Recipe(model.spec, model.spec.folder or Path(), config, counts=model.spec.counts)
    in_process, pairs = seconds(model, counts, config, InProcess(Worker.build(model, counts, config)))
    slow = hooked(model, config)
    one, two = (seconds(model, counts, config, LocalProcesses(recipe, n))[0] for n in (1, 2))
    small, large = peak_megabytes(20), peak_megabytes(200)
    figures = {
        "pairs_per_second": pairs / in_process,
        "hooked_pairs_per_second": slow,
        "speedup": pairs / in_process / slow,
        "seconds_one_process": one,
        "seconds_two_processes": two,
        "peak_megabytes_20_rows": small,
        "peak_megabytes_200_rows": large,
        "backend": config.backend,
    }
    for name, value in figures.items():
        print(f"{name:>26}  {value:.1f}" if isinstance(value, float) else f"{name:>26}  {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
