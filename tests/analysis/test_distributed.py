"""Every executor gives the same bytes, also when a worker is killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis import model as models
from analysis import registry
from analysis.distributed import LocalProcesses, OnRay, Recipe
from analysis.store import RunFolder
from analysis.sweep.baselines import Baselines
from analysis.sweep.config import SweepConfig
from analysis.sweep.executor import Event, Executor, InProcess, ShardDone
from analysis.sweep.plan import Work
from analysis.sweep.run import run, start
from analysis.sweep.worker import Worker
from tests import tiny
from tests.analysis.test_sweep import TEXTS
from tests.ray_cluster import local_cluster

CONFIG = SweepConfig(length=24, shard_rows=1, bootstrap=20, sample_tokens=20, examples=3, bins=8, backend="eager")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A tiny model as a folder that other processes can load."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.hf_model("gpt2").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    counts = torch.randint(0, 50, (tiny.N_TOKENS,), generator=torch.Generator().manual_seed(3))
    np.save(folder / "unigrams.npy", counts.numpy())
    spec = registry.folder_spec(folder, prepend_bos=True)
    config = CONFIG.settled(models.load(spec, dtype=torch.float64))
    return Recipe(spec, folder, config, dtype="float64", counts=spec.counts)


@pytest.fixture(scope="module")
def worker(recipe: Recipe) -> Worker:
    return recipe.worker()


def swept(folder: Path, worker: Worker, executor: Executor) -> dict[str, bytes]:
    """Every file of a whole run."""
    run_folder = RunFolder(folder)
    list(start(run_folder, worker.model, worker.unigram, worker.config, TEXTS, "test"))
    list(run(run_folder, worker.model, worker.unigram, executor))
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, worker: Worker) -> dict[str, bytes]:
    return swept(tmp_path_factory.mktemp("expected"), worker, InProcess(worker))


@dataclass
class Backwards:
    """Shards in the opposite order: the merge must not care."""

    executor: Executor

    def run(self, works: Iterable[Work], baselines: Baselines | None) -> Iterator[Event]:
        return self.executor.run(reversed(list(works)), baselines)


def test_the_order_of_shards_changes_no_byte(tmp_path: Path, worker: Worker, expected: dict[str, bytes]) -> None:
    assert swept(tmp_path, worker, Backwards(InProcess(worker))) == expected


def test_threads_change_no_byte(tmp_path: Path, worker: Worker, expected: dict[str, bytes]) -> None:
    """The config fixes the number of threads, whatever the process has set."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert swept(tmp_path, worker, InProcess(worker)) == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@dataclass
class KillOne:
    """Kills one process of an executor after its first shard."""

    executor: Executor
    victim: Any
    killed: bool = False

    def run(self, works: Iterable[Work], baselines: Baselines | None) -> Iterator[Event]:
        for event in self.executor.run(works, baselines):
            yield event
            if isinstance(event, ShardDone) and not self.killed:
                self.killed = True
                os.kill(self.victim(), signal.SIGKILL)


def test_local_processes_with_one_killed(
    tmp_path: Path, worker: Worker, recipe: Recipe, expected: dict[str, bytes]
) -> None:
    import multiprocessing

    executor = KillOne(LocalProcesses(recipe, 2), lambda: multiprocessing.active_children()[0].pid)
    assert swept(tmp_path, worker, executor) == expected
    assert executor.killed
    assert not multiprocessing.active_children()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_with_an_actor_killed(tmp_path: Path, worker: Worker, recipe: Recipe, expected: dict[str, bytes]) -> None:
    with local_cluster(2):
        executor = KillOne(OnRay(recipe, n=2), _ray_worker)
        assert swept(tmp_path, worker, executor) == expected
        assert executor.killed


def _ray_worker() -> int:
    """The process of one actor of the cluster that this process started (its descendants only)."""
    parents = {int(p.name): int(p.joinpath("stat").read_text().rpartition(")")[2].split()[1]) for p in _processes()}

    def ours(pid: int) -> bool:
        while pid and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    names = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in parents if ours(pid)}
    return next(pid for pid, name in names.items() if name.startswith("ray::_Actor"))


def _processes() -> list[Path]:
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdigit() and (folder / "stat").exists()]
