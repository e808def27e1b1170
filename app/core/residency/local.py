"""A replica in the process that calls it: the model loaded, its token counts, its means."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from analysis import frequency
from analysis.frequency import Unigram
from analysis.identity import vocabulary_sha256
from analysis.model import Model
from analysis.registry import ModelSpec
from app.core.residency import means
from app.core.residency.cache import Cache, Files
from app.core.residency.memory import Memory
from app.core.residency.resident import MeansStatus, Resident
from app.core.settings import Settings

Loader = Callable[..., Model]


def build(
    settings: Settings,
    spec: ModelSpec,
    folder: Path,
    memory: Memory,
    status: MeansStatus,
    *,
    cache: Cache,
    files: Files,
    needed: int,
    counts: Path | None,
    revision: str | None,
    loader: Loader,
) -> Resident:
    """Load it on the device of `memory`, which must have the `needed` bytes. Means that are stored are taken.

    Where that fails, nothing of it stays.
    """
    memory.admit(needed, f"Loading {spec.key}")
    model = loader(spec, folder=folder, device=memory.device, dtype=getattr(torch, settings.dtype))
    with ExitStack() as undo:
        memory.models[spec.key] = needed
        undo.callback(memory.models.pop, spec.key)
        resident = Resident(model, _unigram(counts, model), status, settings, memory, revision, cache)
        undo.callback(resident.close)
        memory.models[spec.key] += resident.engine.bytes
        if status.value is None and (found := means.stored(settings, files, model, folder)) is not None:
            status.value, status.state = found, "ready"
        undo.pop_all()
    return resident


def _unigram(counts: Path | None, model: Model) -> Unigram | None:
    if counts is None:
        return None
    return frequency.load_counts(counts, d_vocab=model.d_vocab, vocabulary=vocabulary_sha256(model.tokenizer))
