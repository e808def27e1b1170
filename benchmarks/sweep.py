"""Corpus sweeps of the bundled model over its sample text: pace, workers, memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from analysis import distributed, metrics
from analysis.corpus import documents, kept_positions
from analysis.distributed import LocalProcesses, Recipe
from analysis.frequency import Unigram, freeze_frequency
from analysis.model import Model
from analysis.registry import bundled
from analysis.store import RunFolder
from analysis.sweep import SweepConfig
from analysis.sweep.executor import Executor, InProcess
from analysis.sweep.run import Progress, run, start
from analysis.sweep.worker import Worker
from benchmarks.measure import finish, table
from benchmarks.memory import held

HOOKED = 24
"""Neurons that the straightforward algorithm ablates: enough to know its pace."""

SHARDS = 16
DOCUMENTS = 2


@dataclass(frozen=True)
class Ground:
    """The bundled model with one config."""

    recipe: Recipe
    model: Model
    counts: Unigram

    @classmethod
    def of(cls, config: SweepConfig) -> Ground:
        spec = bundled()
        assert spec.folder is not None
        recipe = Recipe(spec, spec.folder, config, counts=spec.counts)
        model, counts = distributed.opened(recipe)
        assert counts is not None
        return cls(replace(recipe, config=config.settled(model)), model, counts)

    def text(self) -> Iterator[str]:
        assert self.model.spec.sample is not None
        return documents(self.model.spec.sample)

    def worker(self) -> Worker:
        return Worker.build(self.model, self.counts, self.recipe.config)

    def sweep(self, executor: Executor) -> Iterator[Progress]:
        with tempfile.TemporaryDirectory() as name:
            folder = RunFolder(Path(name) / "run")
            yield from start(folder, self.model, self.counts, self.recipe.config, self.text(), "sample")
            yield from run(folder, self.model, self.counts, executor)


def pairs(last: Progress) -> int:
    assert last.result is not None
    return last.result.n_tokens * len(last.result.neurons)


def sweep_pace() -> float:
    """(token, neuron) pairs a second of one core: reading, both passes, the merge."""
    ground = Ground.of(SweepConfig(n_rows=6, shard_rows=1, sample_tokens=64))
    executor = InProcess(ground.worker())
    began = time.process_time()
    *_, last = ground.sweep(executor)
    return pairs(last) / (time.process_time() - began)


@torch.inference_mode()
def hooked_pace() -> float:
    """The same of the straightforward algorithm: two hooked forward passes a neuron with whole logits (total, LN
    frozen), the frequency component put back, and every measure from these logits."""
    ground = Ground.of(SweepConfig())
    model, config, counts = ground.model, ground.recipe.config, ground.counts
    row = model.encode(next(ground.text()))[: config.length]
    kept = kept_positions(row, config.token_filter, model.excluded_ids)
    tokens, post = model.tokens(row), f"blocks.{model.last_layer}.mlp.hook_post"
    scale = model.run(tokens, capture=["ln_final.hook_scale"])["ln_final.hook_scale"]
    targets, clean = tokens[0][kept + 1], model.logits(tokens)[0, kept]
    direction, log_p_freq = counts.direction.to(clean), counts.log_p.to(clean)
    began = time.process_time()
    for index in range(HOOKED):

        def ablate(n: Tensor, index: int = index) -> Tensor:
            n = n.clone()
            n[..., index] = 0
            return n

        freeze = ("ln_final.hook_scale", lambda _: scale.clone())
        total, direct = (model.logits(tokens, hooks=[(post, ablate), *also])[0, kept] for also in ([], [freeze]))
        for z in (total, direct, freeze_frequency(clean, total, direction)):
            log_p = z.log_softmax(-1)
            _ = metrics.entropy(log_p), metrics.loss(log_p, targets), metrics.kl(log_p_freq, log_p)
            _ = metrics.rank(z, targets), z.argmax(-1) != clean.argmax(-1)
    return HOOKED * len(kept) / (time.process_time() - began)


def processes_pace(n: int) -> float:
    """Pairs a second of ``n`` local processes by the clock on the wall, once they are all at work."""
    ground = Ground.of(SweepConfig(n_rows=4 * SHARDS, shard_rows=4, length=64, sample_tokens=64))
    finished: list[float] = []
    for step in ground.sweep(LocalProcesses(ground.recipe, n)):
        if step.stage == "effects" and step.shards_done > len(finished):
            finished.append(time.perf_counter())
    warm = SHARDS // 4
    return pairs(step) * (1 - warm / SHARDS) / (finished[-1] - finished[warm - 1])


def peak_megabytes(n_documents: int) -> float:
    """Of a fresh process that sweeps some documents, beside the model."""
    code = f"import benchmarks.sweep as b; print(b.memory_of({n_documents}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def memory_of(n_documents: int) -> float:
    """Sweep that many documents in this process; MB beside the model and its kernels, at the peak."""
    torch.set_num_threads(1)
    ground = Ground.of(SweepConfig(max_documents=n_documents, shard_rows=4))
    executor = InProcess(ground.worker())
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    for _ in ground.sweep(executor):
        pass
    return (held("VmHWM") - before) / 1e6


def main() -> None:
    torch.set_num_threads(1)
    fast, slow = sweep_pace(), hooked_pace()
    table(
        "Total, LN frozen and frequency frozen, every measure; one core",
        ["algorithm", "(token, neuron) pairs a second", "times faster"],
        [("hooked forward passes, one neuron each", slow, 1), ("the sweep", fast, fast / slow)],
    )
    workers = {n: processes_pace(n) for n in (1, 2)}
    table("Local processes", ["workers", "pairs a second"], list(workers.items()))
    memory = {factor: peak_megabytes(factor * DOCUMENTS) for factor in (1, 10)}
    table("Peak memory beside the model", ["text", "MB"], [(f"{factor}x", peak) for factor, peak in memory.items()])
    finish(
        "sweep",
        {
            "pairs_per_second": fast,
            "hooked_pairs_per_second": slow,
            "workers_pairs_per_second": workers,
            "peak_megabytes": memory,
        },
    )


if __name__ == "__main__":
    main()
