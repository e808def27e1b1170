"""Shards on several workers: local processes, or a Ray cluster. The interface and the bytes are those of `InProcess`.

Workers get a shard's rows with the task and send its bytes back, so machines of a cluster need no common disk beside
the model's files. A worker that dies costs its shard, which is done again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from analysis import frequency
from analysis import model as models
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.registry import ModelSpec
from analysis.sweep.baselines import Baselines
from analysis.sweep.config import SweepConfig
from analysis.sweep.executor import Event, ShardDone, finish
from analysis.sweep.plan import Work
from analysis.sweep.worker import Worker
from analysis.types import InputError, NullscopeError

MAX_ATTEMPTS = 5
"""How often a shard is tried before a dying worker is taken for the shard's own fault."""


class ExecutorError(NullscopeError):
    """Workers keep dying, or the cluster cannot be used."""

    code = "executor_failed"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a worker elsewhere builds its `Worker`: the model's folder must exist there too."""

    spec: ModelSpec
    folder: Path
    config: SweepConfig
    dtype: str = "float32"
    device: str = "cpu"
    counts: Path | None = None

    def worker(self) -> Worker:
        return Worker(*opened(self), self.config)


def opened(recipe: Recipe) -> tuple[Model, Unigram | None]:
    """The recipe's model with its token counts, loaded here."""
    dtype = getattr(torch, recipe.dtype)
    model = models.load(recipe.spec, folder=recipe.folder, device=recipe.device, dtype=dtype)
    counts = frequency.load_counts(recipe.counts, d_vocab=model.d_vocab) if recipe.counts else None
    return model, counts


# local processes

_worker: Worker | None = None  # of a worker process: built once, by `_start`


def _start(recipe: Recipe) -> None:
    global _worker
    torch.set_num_threads(recipe.config.threads)
    _worker = recipe.worker()


def _compute(work: Work, baselines: Baselines | None) -> bytes:
    assert _worker is not None
    return finish(_worker, work, baselines)


@dataclass(frozen=True, slots=True)
class LocalProcesses:
    """``n`` processes on this machine, each with the model; a process that is killed is replaced."""

    recipe: Recipe
    n: int

    def run(self, works: Iterable[Work], baselines: Baselines | None) -> Iterator[Event]:
        queue = iter(works)
        taken: dict[int, Work] = {}  # from the queue, not finished
        for _ in range(MAX_ATTEMPTS):
            try:
                yield from self._round(list(taken.values()), queue, taken, baselines)
                return
            except BrokenProcessPool:
                continue
        raise ExecutorError(
            f"Worker processes died {MAX_ATTEMPTS} times.",
            hint="Look for a lack of memory, and resume with fewer workers.",
        )

    def _round(
        self, again: list[Work], queue: Iterator[Work], taken: dict[int, Work], baselines: Baselines | None
    ) -> Iterator[ShardDone]:
        """One pool's life: until all is done, or BrokenProcessPool when a process dies."""
        works = chain(again, queue)
        if (first := next(works, None)) is None:
            return
        taken[first.shard] = first
        works = chain([first], works)
        context = multiprocessing.get_context("spawn")  # a forked torch may hang
        pool = ProcessPoolExecutor(self.n, context, initializer=_start, initargs=(self.recipe,))
        running: dict[Future[bytes], Work] = {}
        try:
            while True:
                while len(running) < 2 * self.n and (work := next(works, None)) is not None:
                    taken[work.shard] = work
                    running[pool.submit(_compute, work, baselines)] = work
                if not running:
                    pool.shutdown()  # in peace: a terminated process leaves its semaphores behind
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    content, shard = future.result(), running.pop(future).shard
                    del taken[shard]
                    yield ShardDone(shard, content)
        finally:
            _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop at once: what is running is not wanted any more."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


# Ray


@dataclass(frozen=True, slots=True)
class OnRay:
    """A Ray cluster: one actor a device holds the model, shards are its tasks, a dead actor is started again.

    address: ``auto`` (the cluster this machine belongs to), ``ray://host:10001``, ``host:6379``, or ``local`` to start
    one here. n: actors; None: one for each GPU of the cluster, or each CPU where the recipe's device is one.
    """

    recipe: Recipe
    address: str = "auto"
    n: int | None = None

    def run(self, works: Iterable[Work], baselines: Baselines | None) -> Iterator[Event]:
        ray = _ray(self.address, self.n)
        on_gpu = self.recipe.device.startswith("cuda")
        n = self.n or max(1, int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1)))
        # An actor may restart for ever; what bounds it is how often one task is tried.
        remote = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=-1, max_task_retries=MAX_ATTEMPTS)(_Actor)
        actors = [remote.remote(self.recipe) for _ in range(n)]
        shared = ray.put(baselines)
        try:
            yield from self._share_out(ray, actors, iter(works), shared)
        finally:
            for actor in actors:
                ray.kill(actor)

    @staticmethod
    def _share_out(ray: Any, actors: list[Any], works: Iterator[Work], shared: Any) -> Iterator[Event]:
        """Two tasks in line at every actor, so that none waits for the network."""
        running: dict[Any, tuple[Work, Any]] = {}

        def give(actor: Any) -> None:
            if (work := next(works, None)) is not None:
                running[actor.compute.remote(work, shared)] = (work, actor)

        for actor in actors * 2:
            give(actor)
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            work, actor = running.pop(done[0])
            try:
                content = ray.get(done[0])
            except ray.exceptions.RayActorError as error:
                raise ExecutorError(f"A Ray worker could not be kept alive: {error}"[:300]) from None
            give(actor)
            yield ShardDone(work.shard, content)


class _Actor:
    """A worker in the cluster."""

    def __init__(self, recipe: Recipe) -> None:
        torch.set_num_threads(recipe.config.threads)
        self.worker = recipe.worker()

    def compute(self, work: Work, baselines: Baselines | None) -> bytes:
        return finish(self.worker, work, baselines)

    def pid(self) -> int:
        return os.getpid()


class LostError(ExecutorError):
    """A process of the cluster died, or did not answer in time."""

    code = "worker_lost"


class Elsewhere:
    """An object in a process of a Ray cluster: made there by ``make()``, asked by the names of its methods.

    A process that dies is started again and makes its object anew; what it was asked then is asked once more, so
    methods must bear that. on_gpu: whether it takes a GPU for itself; None: if the cluster has one.
    """

    def __init__(self, make: Callable[[], object], *, address: str, on_gpu: bool | None = None) -> None:
        self._ray = ray = _ray(address, None)
        if on_gpu is None:
            on_gpu = ray.cluster_resources().get("GPU", 0) > 0
        held = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=-1, max_task_retries=2)(_Held)
        self._actor = held.remote(make)

    def ask(self, name: str, *args: Any, seconds: float | None) -> Any:
        """``object.name(*args)`` there. LostError when the process cannot be kept alive or takes too long."""
        exceptions = self._ray.exceptions
        reference = self._actor.ask.remote(name, args)
        try:
            found, error = self._ray.get(reference, timeout=seconds)
        except exceptions.GetTimeoutError:
            self._ray.cancel(reference)
            raise LostError(f"It did not answer within {seconds:g} s.") from None
        except exceptions.RayActorError as lost:
            raise LostError(f"It could not be kept alive: {lost}"[:300]) from None
        if error is not None:
            raise error
        return found

    def close(self) -> None:
        self._ray.kill(self._actor)


class _Held:
    """The process that holds an object. Errors come back as they are, not as Ray wraps them."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.held = make()

    def ask(self, name: str, args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
        try:
            return getattr(self.held, name)(*args), None
        except Exception as error:
            return None, error.with_traceback(None)


def _ray(address: str, n: int | None) -> Any:
    """ray, connected; imported only here because it is an optional extra."""
    try:
        import ray
    except ImportError:
        raise InputError("This executor needs Ray.", code="no_ray", hint="pip install 'nullscope[ray]'") from None
    if not ray.is_initialized():
        where = (
            {"num_cpus": n or os.cpu_count(), "include_dashboard": False}
            if address == "local"
            else {"address": address}
        )
        try:
            ray.init(log_to_driver=False, **where)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ExecutorError(f"No Ray cluster answers at {address!r}: {error}"[:300]) from None
    return ray
