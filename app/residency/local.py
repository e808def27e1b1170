"""A replica in the process that calls it: the model loaded, its token counts, its means."""

from collections.abc import Callable
from pathlib import Path

import torch

from analysis import frequency
from analysis.model import Model
from analysis.registry import ModelSpec
from app.residency import means
from app.residency.memory import Memory
from app.residency.resident import MeansStatus, Resident
from app.settings import Settings

Loader = Callable[..., Model]


def build(
    settings: Settings,
    spec: ModelSpec,
    folder: Path,
    memory: Memory,
    status: MeansStatus,
    *,
    needed: int,
    counts: Path | None,
    revision: str | None,
    loader: Loader,
) -> Resident:
    """Load it on the device of `memory`, which must have the `needed` bytes. Means that are stored are taken."""
    memory.admit(needed, f"Loading {spec.key}")
    model = loader(spec, folder=folder, device=memory.device, dtype=getattr(torch, settings.dtype))
    memory.models[spec.key] = needed
    unigram = None if counts is None else frequency.load_counts(counts, d_vocab=model.d_vocab)
    resident = Resident(model, unigram, status, settings, memory, revision)
    memory.models[spec.key] += resident.engine.bytes
    if status.value is None and (found := means.stored(settings, model, folder)) is not None:
        status.value, status.state = found, "ready"
    return resident
