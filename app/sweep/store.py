"""The sweeps of this server: their folders, the runner of their jobs, and their results.

data_dir/sweeps/<id>/            run folder (analysis.store)
data_dir/corpora/                uploaded texts (app.sweep.texts)
<home of a model>/sweep/          the finished sweep that ships with it: `bundled-<model key>`
"""

import logging
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis import corpus
from analysis.registry import LISTED
from analysis.store import MANIFEST, RunFolder
from analysis.sweep import Result, SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.run import Progress, read, run, start
from analysis.sweep.run import partial as merged_so_far
from analysis.sweep.worker import Worker
from analysis.types import NotFoundError, NotReadyError
from app.core.errors import QuotaError, UnavailableError
from app.core.evidence import RESULTS, Findings, Kept, Speakers, stored
from app.core.expiry import DAY
from app.core.jobs import FINAL, Jobs
from app.core.jobs.progress import Step
from app.core.residency.host import LONG_WORK, ModelHost
from app.core.residency.resident import Resident
from app.core.settings import Settings
from app.core.store import Job
from app.sweep.texts import SAMPLE, Texts, needed_by, users_of

log = logging.getLogger(__name__)

BUNDLED = "bundled-"
PARTIALS = 4  # unfinished results kept in memory
STAGES = {"baselines": "first pass: mean activations", "effects": "second pass: effects"}
MAX_ATTEMPTS = 5  # of a sweep whose worker on a cluster dies
PARTIAL_SHARDS = 8  # a partial result is merged after every eighth of the shards


class Sweeps:
    """Born with the application. Reading is allowed from any thread; the runner is called by the jobs' thread."""

    def __init__(self, settings: Settings, host: ModelHost, jobs: Jobs) -> None:
        self.settings, self.host, self.jobs = settings, host, jobs
        self.uploads = Texts.of(settings)
        self._partials: OrderedDict[str, Result] = OrderedDict()  # of sweeps that have not finished, the latest last
        ended = partial(jobs.finished, "sweep")
        self._kept = Kept(host)
        self.speakers = Speakers(ended, self._ships_with, self.folder, settings.dtype, self._kept, self.named)
        self.on_finished: Callable[[str], None] = lambda sweep_id: None  # called by the jobs' thread
        jobs.register("sweep", self._runner, resumable=True)

    def named(self, sweep_id: str) -> str:
        """How somebody called it; those of before could not be called."""
        return str(self.jobs.get(sweep_id).config.get("name", ""))

    # folders

    def folder(self, sweep_id: str) -> RunFolder:
        """The run folder; NotFoundError for an id that names none."""
        if sweep_id.startswith(BUNDLED):
            folder = self._beside(sweep_id.removeprefix(BUNDLED))
            if folder is None:
                raise NotFoundError(f"There is no sweep {sweep_id[:60]!r}.", code="no_such_sweep")
            return folder
        return RunFolder(self.settings.data_dir / "sweeps" / self.jobs.get(sweep_id).id)

    def bundled(self) -> dict[str, RunFolder]:
        """The finished sweeps that lie beside served models."""
        folders = {BUNDLED + key: self._beside(key) for key in list(self.host.entries)}
        return {sweep_id: folder for sweep_id, folder in folders.items() if folder is not None}

    def _beside(self, key: str) -> RunFolder | None:
        """The finished sweep that ships with a model, served or only listed."""
        entry = self.host.entries.get(key)
        spec = LISTED.get(key) if entry is None else entry.spec
        home = None if spec is None else spec.home
        return RunFolder(home / "sweep") if home is not None and (home / "sweep" / MANIFEST).exists() else None

    # texts

    def texts(self, model: str, corpus_id: str) -> Callable[[], Iterator[str]]:
        """What reads the documents of an upload, or of the model's sample text, here or in a worker elsewhere."""
        return partial(corpus.documents, self._text_file(model, corpus_id), limits=self.uploads.limits)

    def _text_file(self, model: str, corpus_id: str) -> Path:
        if corpus_id != SAMPLE:
            return self.uploads.file(corpus_id)
        sample = self.host.entry(model).spec.sample
        if sample is None:
            raise NotFoundError(f"{model} has no sample text.", code="no_sample", hint="Upload a text.")
        return sample

    # the job

    def submit(self, model: str, person: str, config: SweepConfig, corpus_id: str, source: str, name: str = "") -> str:
        """Queue a sweep, which somebody may have named.

        QuotaError when the person's sweeps have filled their share, BusyError when too many wait.
        """
        quota = self.settings.sweep_quota_bytes
        if quota is not None:
            QuotaError.check(
                "sweeps", self.size(person), 1, quota, "Delete one on its page, or DELETE /api/v1/sweeps/ID."
            )
        config = replace(config, backend=self.settings.effects_backend)
        if corpus_id != SAMPLE:
            self.uploads.touch(corpus_id)
        return self.jobs.submit(
            "sweep",
            model=model,
            person=person,
            config={"sweep": config.as_json(), "corpus": corpus_id, "source": source, "name": name},
        )

    def _runner(self, sweep_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        """Start or go on with a sweep. Reading and merging happen here, the passes on the device in slices."""
        for _ in self.host.awaiting(model):
            yield Step("waiting for the model", idle=True)
        _, placed = self.host.replica(model)
        folder = RunFolder(self.settings.data_dir / "sweeps" / sweep_id)
        sweep = SweepConfig.from_json(config["sweep"])
        texts = self.texts(model, config["corpus"])
        if isinstance(placed, Resident):
            steps = self._here(placed, folder, sweep, texts(), config["source"])
        else:
            whole = partial(elsewhere, folder=folder, sweep=sweep, texts=texts, source=config["source"])
            steps = self._retried(model, whole)
        merged = 0
        for step in steps:
            yield step
            if step.stage == STAGES["effects"] and step.done - merged >= max(1, step.total // PARTIAL_SHARDS):
                merged = step.done
                if (found := merged_so_far(folder, placed.model, has_counts=placed.unigram is not None)) is not None:
                    self._keep_partial(sweep_id, found)
        self._partials.pop(sweep_id, None)
        self.on_finished(sweep_id)

    def _keep_partial(self, sweep_id: str, found: Result) -> None:
        self._partials[sweep_id] = found
        self._partials.move_to_end(sweep_id)
        while len(self._partials) > PARTIALS:
            self._partials.popitem(last=False)

    def _here(
        self, resident: Resident, folder: RunFolder, sweep: SweepConfig, texts: Iterator[str], source: str
    ) -> Iterator[Step]:
        """Reading on this thread, the passes on the device's."""
        model, unigram = resident.model, resident.unigram
        for read_so_far in start(folder, model, unigram, sweep, texts, source):
            yield Step("reading the text", read_so_far.documents)
        yield Step("preparing the kernels")
        executor = InProcess(Worker.build(model, unigram, sweep.settled(model)))

        def passes(here: Resident) -> Iterator[Progress]:
            return run(folder, here.model, here.unigram, executor)

        yield from map(_step, self.host.slices(model.key, passes, who=LONG_WORK, kind="sweep"))

    def _retried(self, model: str, whole: Callable[[Resident], Iterator[Step]]) -> Iterator[Step]:
        """A worker of the cluster that dies is started again, and the sweep goes on from its folder."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                yield from self.host.slices(model, whole, who=LONG_WORK, kind="sweep")
                return
            except UnavailableError as error:
                if error.code != "worker_lost" or attempt + 1 == MAX_ATTEMPTS:
                    raise
                log.warning("a worker of the cluster was lost in a sweep of %s", model)
                yield Step("waiting for the worker")

    # results

    def result(self, sweep_id: str) -> Result:
        """The finished result, or what there is of it; NotReadyError before the first shard of effects."""
        folder = self.folder(sweep_id)
        known = stored(sweep_id, folder, 0.0)
        if known is not None and (found := self._kept(RESULTS, known, lambda: read(folder))) is not None:
            return found
        if (found := self._partials.get(sweep_id)) is not None:
            return found
        raise NotReadyError(
            "This sweep has no effects yet.", code="sweep_not_ready", hint="Wait for its first shards, or resume it."
        )

    def delete(self, sweep_id: str) -> None:
        """Remove a sweep that has ended, with its files, and its text when no other sweep uses it."""
        if sweep_id.startswith(BUNDLED):
            raise NotFoundError("The sweep that ships with a model cannot be deleted.", code="no_such_sweep")
        job: Job = self.jobs.get(sweep_id)
        self.jobs.delete(sweep_id)
        self._partials.pop(sweep_id, None)
        self.speakers.forget(sweep_id)
        shutil.rmtree(self.settings.data_dir / "sweeps" / sweep_id, ignore_errors=True)
        corpus_id = job.config.get("corpus", SAMPLE)
        if corpus_id != SAMPLE and corpus_id not in users_of(self.jobs):
            self.uploads.remove(corpus_id)

    def size(self, person: str) -> int:
        """Bytes on disk of one person's sweeps, whatever has become of them."""
        folders = [self.settings.data_dir / "sweeps" / job.id for job in self.jobs.every("sweep", person=person)]
        return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())

    def expire(self, now: float) -> None:
        """Remove sweeps that ended, and uploads that were last used, too many days ago. now: seconds since 1970."""
        if (days := self.settings.sweep_days) is not None:
            for job in self.jobs.every("sweep"):
                if job.state in FINAL and job.updated < now - days * DAY:
                    self.delete(job.id)
        if (days := self.settings.upload_days) is not None:
            self.uploads.expire(now - days * DAY, needed_by(self.jobs))

    def findings(self, model: str, weights_sha256: str, wanted: str | None = None) -> Findings:
        """What the atlas and the labels show of a model: of the largest sweep that fits, or of the one wanted."""
        return self.speakers.findings(model, weights_sha256, wanted)

    def _ships_with(self, model: str) -> list[tuple[str, float]]:
        return [] if self._beside(model) is None else [(BUNDLED + model, 0.0)]


def _step(progress: Progress) -> Step:
    stage = STAGES.get(progress.stage, progress.stage)
    return Step(stage, progress.shards_done, progress.shards_total, progress.tokens)


def elsewhere(
    resident: Resident, folder: RunFolder, sweep: SweepConfig, texts: Callable[[], Iterator[str]], source: str
) -> Iterator[Step]:
    """A whole sweep beside a model on a cluster, which sees this data folder."""
    model, unigram = resident.model, resident.unigram
    for read_so_far in start(folder, model, unigram, sweep, texts(), source):
        yield Step("reading the text", read_so_far.documents)
    yield Step("preparing the kernels")
    worker = Worker.build(model, unigram, sweep.settled(model))
    yield from map(_step, run(folder, model, unigram, InProcess(worker)))
