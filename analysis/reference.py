"""Reference means: the average activation of every neuron over a text, the baseline of mean ablation.

The paper's baseline is the mean over all positions of its corpus, BOS included (METHODS section 3). Computed once for a
model and a text, then kept beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analysis.model import Model
from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class ReferenceMeans:
    """means: float32, every neuron of every layer. source: the text they were taken over. n_tokens: how many."""

    means: Float[Tensor, "n_layers d_mlp"]
    source: str
    n_tokens: int
    weights_sha256: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows done of rows to do; ``result`` comes with the last one."""

    done: int
    total: int
    result: ReferenceMeans | None = None


def rows_of(model: Model, texts: Sequence[str], *, length: int | None = None) -> list[list[int]]:
    """Each text as rows of at most ``length`` tokens (n_ctx, 256 at most, by default), each with the model's BOS."""
    size = length or min(model.n_ctx, 256)
    bos = [model.bos_id] if model.prepends_bos() and model.bos_id is not None else []
    step = size - len(bos)
    rows = []
    for text in texts:
        ids = model.encode(text, prepend_bos=False)
        rows += [[*bos, *ids[start : start + step]] for start in range(0, len(ids), step)]
    return rows


def compute(model: Model, rows: Sequence[Sequence[int]], *, source: str) -> Iterator[Progress]:
    """Average every MLP activation over all positions of ``rows``, one row a step; sums are float64."""
    if not rows:
        raise InputError("The reference text is empty.", code="empty_text")
    names = [f"blocks.{layer}.mlp.hook_post" for layer in range(model.n_layers)]
    total = torch.zeros(model.n_layers, model.d_mlp, dtype=torch.float64, device=model.device)
    n_tokens = 0
    for done, row in enumerate(rows, start=1):
        captured = model.run(model.tokens(row), capture=names)
        total += torch.stack([captured[name][0].double().sum(0) for name in names])
        n_tokens += len(row)
        if done < len(rows):
            yield Progress(done, len(rows))
    means = (total / n_tokens).float().cpu()
    yield Progress(len(rows), len(rows), ReferenceMeans(means, source, n_tokens, model.weights_sha256))


def save(reference: ReferenceMeans, path: Path) -> None:
    """Write to a temporary name and rename: a reader sees the whole file or none."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    metadata = {
        "source": reference.source, "n_tokens": str(reference.n_tokens), "weights_sha256": reference.weights_sha256
    }  # fmt: skip
    save_file({"means": reference.means.contiguous()}, temporary, metadata=metadata)
    os.replace(temporary, path)


def load(path: Path) -> ReferenceMeans:
    """Read what `save` wrote; InputError when the file is something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return ReferenceMeans(
                file.get_tensor("means"), metadata["source"], int(metadata["n_tokens"]), metadata["weights_sha256"]
            )
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{path.name} holds no reference means: {error}", code="bad_reference") from error
