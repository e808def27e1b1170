"""How often each token occurs in a text: what `analysis.frequency` is made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from analysis import loading
from analysis.identity import vocabulary_sha256
from analysis.unread import Reader


def count_tokens(
    folder: Path, texts: Iterable[str], *, name: str | None = None, source: str = "the text"
) -> Int64[ndarray, " largest_id_plus_1"]:
    """How often each id of a folder's tokenizer occurs in ``texts``, without special tokens.

    name: the model's, for errors; the folder's by default. source: the text's. UnsupportedModelError as for
    `analysis.model.load`; InputError where the tokenizer cannot read the text.
    """
    tokenizer = loading.tokenizer(folder, name or folder.name)
    reader = Reader(tokenizer, name or folder.name)
    counts = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64)  # ids may have holes
    for ids in map(reader.ids, texts):
        counts += np.bincount(ids, minlength=len(counts)) if ids else 0
    if reader.unknown_id is not None and counts.any():
        share = float(counts[reader.unknown_id] / counts.sum())
        reader.check_read(share, source, hint="Count a text that it can read.", what="counts of them")
    return counts


def vocabulary_of(folder: Path, name: str) -> str:
    """`vocabulary_sha256` of a folder's tokenizer. UnsupportedModelError as for `analysis.model.load`."""
    return vocabulary_sha256(loading.tokenizer(folder, name))
