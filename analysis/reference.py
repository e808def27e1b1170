"""Reference means: the average activation of every neuron over a text, the baseline of mean ablation.

The paper's baseline is the mean over all positions of its corpus, BOS included (METHODS section 3); first tokens that
are attention sinks are left out here (`analysis.sinks`). Computed once for a model and a text, then kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from analysis import sinks
from analysis.files import replaced
from analysis.model import Model
from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class ReferenceMeans:
    """means: float32, every neuron of every layer. source: the text they were taken over. n_tokens: how many.
    unknown: share of them that the tokenizer does not know; None where a file does not say. sinks: how many first
    tokens of rows were left out as attention sinks; they are not among n_tokens."""

    means: Float[Tensor, "n_layers d_mlp"]
    source: str
    n_tokens: int
    weights_sha256: str
    unknown: float | None = None
    sinks: int = 0


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


def unknown_share(model: Model, rows: Sequence[Sequence[int]]) -> float:
    """Share of the tokens that stand for what the tokenizer cannot read."""
    unknown = model.reader.unknown_id
    if unknown is None:
        return 0.0
    return sum(list(row).count(unknown) for row in rows) / max(1, sum(map(len, rows)))


def compute(
    model: Model, rows: Sequence[Sequence[int]], *, source: str, keep_sinks: bool = False
) -> Iterator[Progress]:
    """Average every MLP activation over all positions of ``rows`` but attention sinks, one row a step; sums are
    float64. InputError where too many of the tokens are unknown."""
    if not rows:
        raise InputError("The reference text is empty.", code="empty_text")
    unknown = unknown_share(model, rows)
    model.reader.check_read(unknown, source, hint=f"Name a text that it can read: --reference {model.key}=FILE.")
    names = [f"blocks.{layer}.mlp.hook_post" for layer in range(model.n_layers)]
    total = torch.zeros(model.n_layers, model.d_mlp, dtype=torch.float64, device=model.device)
    n_tokens = n_sinks = 0
    for done, row in enumerate(rows, start=1):
        captured = model.run(model.tokens(row), capture=names)
        skip = sinks.sinks_in(model, len(row), keep=keep_sinks)
        total += torch.stack([captured[name][0, skip:].double().sum(0) for name in names])
        n_tokens += len(row) - skip
        n_sinks += skip
        if done < len(rows):
            yield Progress(done, len(rows))
    means = (total / n_tokens).float().cpu()
    made = ReferenceMeans(means, source, n_tokens, model.weights_sha256, unknown, n_sinks)
    yield Progress(len(rows), len(rows), made)


def save(reference: ReferenceMeans, path: Path) -> None:
    """A reader sees the whole file or none."""
    metadata = {
        "source": reference.source, "n_tokens": str(reference.n_tokens), "weights_sha256": reference.weights_sha256
    }  # fmt: skip
    if reference.sinks:
        metadata["sinks"] = str(reference.sinks)
    if reference.unknown is not None:
        metadata["unknown"] = repr(reference.unknown)
    with replaced(path) as temporary:
        save_file({"means": reference.means.contiguous()}, temporary, metadata=metadata)


def load(path: Path) -> ReferenceMeans:
    """Read what `save` wrote; InputError when the file is something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            means = file.get_tensor("means").clone()  # in memory of its own: the file may be written over
            unknown = float(metadata["unknown"]) if "unknown" in metadata else None
            n_tokens, weights_sha256 = int(metadata["n_tokens"]), metadata["weights_sha256"]
            n_sinks = int(metadata.get("sinks", 0))
            return ReferenceMeans(means, metadata["source"], n_tokens, weights_sha256, unknown, n_sinks)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{path.name} holds no reference means: {error}", code="bad_reference") from error
