"""A whole sweep: documents to rows, the two passes, the merge. A generator: who runs it owns progress and cancelling.

    start(folder, model, config, source)             the manifest and the rows (a generator too: reading takes time)
    run(folder, model, unigram, executor)            everything that is still to do, in a folder that was started

Stopping the generator at any moment, or killing the process, loses at most the shards that were being computed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analysis import corpus
from analysis.corpus import Prepared, RowRule, RowSet
from analysis.frequency import Unigram
from analysis.identity import tokenizer_sha256
from analysis.model import Model
from analysis.store import MANIFEST, RunFolder
from analysis.sweep import measures
from analysis.sweep.baselines import Baselines
from analysis.sweep.config import Shape, SweepConfig
from analysis.sweep.executor import Executor, ShardDone
from analysis.sweep.plan import Plan
from analysis.sweep.result import Result, merge, shards_of
from analysis.types import InputError, NullscopeError

FORMAT = 1
"""Of the run folder; another one is refused."""

Stage = Literal["reading", "baselines", "effects", "merging", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """shards: of this stage, done and in all. tokens: finished since this generator started. documents: read so far."""

    stage: Stage
    shards_done: int = 0
    shards_total: int = 0
    tokens: int = 0
    documents: int = 0
    result: Result | None = None


def start(
    folder: RunFolder, model: Model, unigram: Unigram | None, config: SweepConfig, texts: Iterable[str], source: str
) -> Iterator[Progress]:
    """Cut the documents into rows and write the manifest, or check that what is there is the same run.

    InputError when the folder holds another run, or nothing is left of the documents; then nothing is left behind.
    """
    config = config.settled(model)
    if (folder.path / MANIFEST).exists():
        text = {"source": source, "sha256": corpus.content_sha256(texts, config.max_documents)}
        _same_run(folder, model, unigram, config, text)
        return
    existed = folder.path.exists()
    rule = RowRule(
        length=config.length or model.n_ctx,
        bos=model.bos_id if model.prepends_bos() else None,
        token_filter=config.token_filter,
        excluded=model.excluded_ids,
        end=model.tokenizer.eos_token_id if config.split_at_end else None,
        n_rows=config.n_rows,
        seed=config.seed,
        max_documents=config.max_documents,
    )
    prepared: Prepared | None = None
    try:
        for step in corpus.prepare(texts, model, rule, folder.path):
            if isinstance(step, Prepared):
                prepared = step
            else:
                yield Progress("reading", documents=step)
        assert prepared is not None
        share = RowSet.open(folder.path).share_of(model.reader.unknown_id)
        model.reader.check_read(share, source, hint="Sweep over a text that it can read.")
        folder.create(manifest(model, unigram, config, prepared, source))
    except BaseException:
        if not existed:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def manifest(
    model: Model, unigram: Unigram | None, config: SweepConfig, prepared: Prepared, source: str
) -> dict[str, Any]:
    """Config and provenance: everything that the numbers depend on, and nothing else (no date, no host)."""
    return {
        "format": FORMAT,
        "config": config.as_json(),
        "config_sha256": config.sha256,
        **_identity(model, unigram),
        "corpus": {
            "source": source,
            "sha256": prepared.sha256,
            "documents": prepared.n_documents,
            "rows_read": prepared.n_rows,
            "rows": prepared.kept_rows,
        },
    }


def _identity(model: Model, unigram: Unigram | None) -> dict[str, Any]:
    import torch

    return {
        "model": model.key,
        "weights_sha256": model.weights_sha256,
        "tokenizer_sha256": tokenizer_sha256(model.tokenizer),
        "last_layer": model.last_layer,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "form_sha256": model.identity.form_sha256,
        **({} if model.spec.dequantized is None else {"dequantized": model.spec.dequantized}),
        "unigram": None if unigram is None else unigram.source,
        "unigram_sha256": None if unigram is None else unigram.sha256,
        "torch": torch.__version__,
    }


def _same_run(
    folder: RunFolder, model: Model, unigram: Unigram | None, config: SweepConfig, text: dict[str, str]
) -> None:
    present = folder.manifest()
    asked = {"config": config.as_json(), "config_sha256": config.sha256, "corpus": present["corpus"] | text}
    # A run of an earlier version says less of itself.
    known = {name: value for name, value in _identity(model, unigram).items() if name in present}
    folder.create({**present, **asked, **known})


def run(folder: RunFolder, model: Model, unigram: Unigram | None, executor: Executor) -> Iterator[Progress]:
    """Do what is left of a started run; the last Progress carries the result."""
    folder.tidy()
    config = config_of(folder)
    _same_run(folder, model, unigram, config, {})
    if (result := read(folder)) is not None:
        yield Progress("done", result=result)
        return
    plan = Plan.make(RowSet.open(folder.path), config, model.excluded_ids)
    yield from _stage(folder, plan, executor, "baselines", None)
    baselines = _baselines(folder, plan)
    yield from _stage(folder, plan, executor, "effects", baselines)
    yield Progress("merging", plan.n_shards, plan.n_shards)
    made = _merged(folder, plan, config.chosen(model), unigram is not None, baselines, range(plan.n_shards))
    if made.n_rows != len(plan.rows):
        raise NullscopeError("A shard was damaged while the sweep ran; run it again.", code="damaged_run")
    folder.finish(made.files(), made.summary())
    yield Progress("done", plan.n_shards, plan.n_shards, result=made)


def _stage(
    folder: RunFolder,
    plan: Plan,
    executor: Executor,
    stage: Literal["baselines", "effects"],
    baselines: Baselines | None,
) -> Iterator[Progress]:
    finished = set(folder.finished(stage, plan.n_shards))
    left = [shard for shard in range(plan.n_shards) if shard not in finished]
    done, tokens = len(finished), 0
    yield Progress(stage, done, plan.n_shards)
    for event in executor.run(plan.works(stage, left), baselines):
        if isinstance(event, ShardDone):
            folder.put(stage, event.shard, event.content)
            done += 1
        else:
            tokens += event.tokens
        yield Progress(stage, done, plan.n_shards, tokens)
    if done != plan.n_shards:
        raise NullscopeError(f"The executor left {plan.n_shards - done} shards undone.", code="executor_failed")


def _baselines(folder: RunFolder, plan: Plan) -> Baselines:
    shards = list(range(plan.n_shards))
    return Baselines.merge(plan.config, len(plan.draw), shards_of(folder, "baselines", shards))


def _merged(
    folder: RunFolder, plan: Plan, neurons: Any, has_counts: bool, baselines: Baselines, shards: Iterable[int]
) -> Result:
    draw, size, done = plan.draw.first(plan.config.sample_tokens), plan.config.shard_rows, list(shards)
    every = np.arange(len(plan.rows))
    first = next(shards_of(folder, "effects", done), None)
    plain = measures.conditions_of(has_counts, False)
    more = first is not None and len(first["sums"]) > len(plain)  # a norm behind the MLP: the shards tell
    return merge(
        plan.config,
        neurons,
        measures.conditions_of(has_counts, True) if more else plain,
        baselines,
        np.stack([draw.rows, draw.positions], 1),
        shards_of(folder, "effects", done),
        documents=plan.rows.documents,
        rows=np.concatenate([every[shard * size : (shard + 1) * size] for shard in done]),
    )


def config_of(folder: RunFolder) -> SweepConfig:
    """The config of a started run; InputError when its format is another."""
    found = folder.manifest()
    if found.get("format") != FORMAT:
        raise InputError("This run was written by another version.", code="other_format", hint="Start it again.")
    return SweepConfig.from_json(found["config"])


def read(folder: RunFolder) -> Result | None:
    """The finished result; None while there is none, or when it is damaged."""
    summary = folder.result()
    return None if summary is None else Result.read(folder, summary)


def partial(folder: RunFolder, model: Shape, *, has_counts: bool) -> Result | None:
    """What the finished shards say so far; None before the first shard of effects."""
    if (found := read(folder)) is not None:
        return found
    config = config_of(folder)
    plan = Plan.make(RowSet.open(folder.path), config, model.excluded_ids)
    done = folder.finished("effects", plan.n_shards)
    if not done:
        return None
    return _merged(folder, plan, config.chosen(model), has_counts, _baselines(folder, plan), done)


def bundled_result(folder: Path) -> Result | None:
    """The finished sweep that lies beside a model's weights, if there is one."""
    return read(RunFolder(folder / "sweep")) if (folder / "sweep" / MANIFEST).exists() else None
