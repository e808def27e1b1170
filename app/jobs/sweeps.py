"""The sweeps of this server: their folders, the runner of their jobs, and their results.

data_dir/sweeps/<id>/            run folder (analysis.store)
data_dir/corpora/<id>.jsonl      an uploaded text, kept with its sweeps
<model folder>/sweep/            the finished sweep that ships with a model: `bundled-<model key>`
"""

import logging
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis import corpus
from analysis.corpus import ReadLimits
from analysis.labels import Evidence
from analysis.store import MANIFEST, RunFolder
from analysis.sweep import Result, SweepConfig
from analysis.sweep.executor import InProcess
from analysis.sweep.run import Progress, read, run, start
from analysis.sweep.run import partial as merged_so_far
from analysis.sweep.worker import Worker
from analysis.types import NotFoundError, NotReadyError
from app.db import Job
from app.errors import UnavailableError
from app.jobs import Jobs, Step
from app.residency.host import ModelHost
from app.residency.resident import Resident
from app.settings import Settings

log = logging.getLogger(__name__)

BUNDLED = "bundled-"
SAMPLE = "sample"
CACHED_RESULTS = 4
STAGES = {"baselines": "first pass: mean activations", "effects": "second pass: effects"}
MAX_ATTEMPTS = 5  # of a sweep whose worker on a cluster dies
PARTIAL_SHARDS = 8  # a partial result is merged after every eighth of the shards


@dataclass(frozen=True, slots=True)
class Corpus:
    """An uploaded text that was read once in full and found to be good."""

    id: str
    name: str
    n_documents: int
    n_characters: int


class Sweeps:
    """Born with the application. Reading is allowed from any thread; the runner is called by the jobs' thread."""

    def __init__(self, settings: Settings, host: ModelHost, jobs: Jobs) -> None:
        self.settings, self.host, self.jobs = settings, host, jobs
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._partials: dict[str, Result] = {}
        self._evidence: tuple[str, dict[str, Evidence]] = ("", {})
        self._lock = threading.Lock()
        jobs.register("sweep", self._runner)

    # folders

    def folder(self, sweep_id: str) -> RunFolder:
        """The run folder; NotFoundError for an id that names none."""
        if sweep_id.startswith(BUNDLED):
            bundled = self.bundled().get(sweep_id)
            if bundled is None:
                raise NotFoundError(f"There is no sweep {sweep_id[:60]!r}.", code="no_such_sweep")
            return bundled
        return RunFolder(self.settings.data_dir / "sweeps" / self.jobs.get(sweep_id).id)

    def bundled(self) -> dict[str, RunFolder]:
        """The finished sweeps that lie beside served models."""
        found = {}
        for key, entry in list(self.host.entries.items()):
            folder = entry.spec.folder
            if folder is not None and (folder / "sweep" / MANIFEST).exists():
                found[BUNDLED + key] = RunFolder(folder / "sweep")
        return found

    # texts

    def receive(self, name: str, content: Iterable[bytes]) -> Corpus:
        """Store an upload and read it once; InputError, and nothing left behind, when it is no good."""
        suffix = next((suffix for suffix in corpus.SUFFIXES if name.lower().endswith(suffix)), "")
        folder = self.settings.data_dir / "corpora"
        folder.mkdir(parents=True, exist_ok=True)
        corpus_id = uuid.uuid4().hex[:12]
        path = folder / f"{corpus_id}{suffix or Path(name).suffix[:12]}"
        try:
            with path.open("wb") as file:
                for block in content:
                    file.write(block)
            n_documents = n_characters = 0
            for text in corpus.documents(path, limits=self._limits(), name=name[:200]):
                n_documents, n_characters = n_documents + 1, n_characters + len(text)
            if n_documents == 0:
                raise corpus.empty(name[:200])
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        path.with_name(f".{corpus_id}.name").write_text(name[:200], encoding="utf-8")
        return Corpus(corpus_id, name[:200], n_documents, n_characters)

    def texts(self, model: str, corpus_id: str) -> Callable[[], Iterator[str]]:
        """What reads the documents of an upload, or of the model's sample text, here or in a worker elsewhere."""
        return partial(corpus.documents, self._text_file(model, corpus_id), limits=self._limits())

    def _text_file(self, model: str, corpus_id: str) -> Path:
        if corpus_id == SAMPLE:
            sample = self.host.entry(model).spec.sample
            if sample is None:
                raise NotFoundError(f"{model} has no sample text.", code="no_sample", hint="Upload a text.")
            return sample
        found = [*(self.settings.data_dir / "corpora").glob(f"{corpus_id}.*")] if corpus_id.isalnum() else []
        if not found:
            raise NotFoundError(
                f"There is no text {corpus_id[:40]!r} here.", code="no_such_corpus", hint="Upload it again."
            )
        return found[0]

    def corpus_name(self, corpus_id: str) -> str:
        """The name an upload came under; NotFoundError when it is gone."""
        path = self._text_file("", corpus_id)
        note = path.with_name(f".{corpus_id}.name")
        return note.read_text(encoding="utf-8") if note.exists() else path.name

    def _limits(self) -> ReadLimits:
        return ReadLimits(total=self.settings.max_corpus_characters)

    # the job

    def submit(self, model: str, person: str, config: SweepConfig, corpus_id: str, source: str) -> str:
        config = replace(config, backend=self.settings.effects_backend)
        return self.jobs.submit(
            "sweep",
            model=model,
            person=person,
            config={"sweep": config.as_json(), "corpus": corpus_id, "source": source},
        )

    def _runner(self, sweep_id: str, model: str, config: dict[str, Any]) -> Iterator[Step]:
        """Start or go on with a sweep. Reading and merging happen here, the passes on the device in slices."""
        self.host.wait(model)
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
                    self._partials[sweep_id] = found
        self._partials.pop(sweep_id, None)

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

        yield from map(_step, self.host.slices(model.key, passes, who="sweeps", kind="sweep"))

    def _retried(self, model: str, whole: Callable[[Resident], Iterator[Step]]) -> Iterator[Step]:
        """A worker of the cluster that dies is started again, and the sweep goes on from its folder."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                yield from self.host.slices(model, whole, who="sweeps", kind="sweep")
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
        with self._lock:
            if (found := self._results.get(sweep_id)) is not None:
                self._results.move_to_end(sweep_id)
                return found
            if (found := read(folder) if (folder.path / MANIFEST).exists() else None) is not None:
                self._results[sweep_id] = found
                while len(self._results) > CACHED_RESULTS:
                    self._results.popitem(last=False)
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
        with self._lock:
            self._results.pop(sweep_id, None)
            self._partials.pop(sweep_id, None)
        shutil.rmtree(self.settings.data_dir / "sweeps" / sweep_id, ignore_errors=True)
        used = {other.config.get("corpus") for other in self.jobs.every("sweep")}
        corpus_id = job.config.get("corpus", SAMPLE)
        if corpus_id != SAMPLE and corpus_id not in used and corpus_id.isalnum():
            for pattern in (f"{corpus_id}.*", f".{corpus_id}.name"):
                for file in (self.settings.data_dir / "corpora").glob(pattern):
                    file.unlink(missing_ok=True)

    def finished_for(self, model: str, weights_sha256: str) -> str | None:
        """The newest finished sweep of these weights over the whole last layer; the bundled one if there is no
        other."""
        for job in self.jobs.every("sweep"):
            whole = job.config.get("sweep", {}).get("neurons") is None
            if job.model == model and job.state == "finished" and whole and self._matches(job.id, weights_sha256):
                return job.id
        sweep_id = BUNDLED + model
        return sweep_id if sweep_id in self.bundled() and self._matches(sweep_id, weights_sha256) else None

    def _matches(self, sweep_id: str, weights_sha256: str) -> bool:
        folder = self.folder(sweep_id)
        return (folder.path / MANIFEST).exists() and folder.manifest().get("weights_sha256") == weights_sha256

    def evidence(self, model: str, weights_sha256: str) -> dict[str, Evidence]:
        """What the atlas and the labels show of the newest finished sweep: neuron -> Evidence."""
        sweep_id = self.finished_for(model, weights_sha256)
        if sweep_id is None:
            return {}
        if self._evidence[0] != sweep_id:
            self._evidence = (sweep_id, evidence_of(self.result(sweep_id)))
        return self._evidence[1]


_COLUMNS = {
    "te": "total.abs_loss",
    "de": "direct.abs_loss",
    "ln_mediated_fraction": "ln_fraction",
    "frequency_mediated_fraction": "frequency_fraction",
    "mean_abs_d_entropy": "total.abs_entropy",
    "mean_abs_d_kl": "total.abs_kl_unigram",
}


def evidence_of(result: Result) -> dict[str, Evidence]:
    """A sweep's table as evidence, one neuron each; unreliable fractions are left out."""

    def value(name: str, place: int) -> float | None:
        if name not in result.table:
            return None
        if f"{name}.reliable" in result.table and not result.table[f"{name}.reliable"][place]:
            return None
        found = float(result.table[name][place])
        return found if found == found else None

    def intervals(place: int) -> dict[str, tuple[float, float]]:
        return {
            key: (float(result.table[f"{name}.low"][place]), float(result.table[f"{name}.high"][place]))
            for key, name in _COLUMNS.items()
            if f"{name}.low" in result.table and value(name, place) is not None
        }

    return {
        str(neuron): Evidence(
            **{key: value(name, place) for key, name in _COLUMNS.items()},  # type: ignore[arg-type]
            intervals=intervals(place),
        )
        for neuron, place in result.place.items()
    }


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
