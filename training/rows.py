"""Rows of tokens for a step: a pure function of the seed and the step's number, so that a run resumes without any
saved state.

Three kinds: clean text; text with a share of its tokens replaced (METHODS of the model card: corruption); repeated
passages.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.recipe import Corruption, Recipe
from training.texts import HELD_OUT

Ids = NDArray[np.int64]


def corrupt(
    ids: Ids, corruption: Corruption, p_unigram: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Ids, float]:
    """A copy of a row with some tokens replaced, and the rate: uniformly random tokens or draws from the unigram
    distribution."""
    rate = rng.uniform(corruption.low, corruption.high)
    replaced = np.flatnonzero(rng.random(len(ids)) < rate)
    if rng.random() < 1 - corruption.by_frequency:
        noise = rng.integers(1, len(p_unigram), len(replaced))
    else:
        noise = rng.choice(len(p_unigram), len(replaced), p=p_unigram)
    out = ids.copy()
    out[replaced] = noise
    return out, rate


def repeat(ids: Ids, d_vocab: int, rng: np.random.Generator) -> Ids:
    """A passage of random length repeated to the end of the row: of the text itself, or of uniformly random tokens."""
    period = rng.integers(16, len(ids) // 2 + 1)
    passage = ids[:period] if rng.random() < 0.5 else rng.integers(1, d_vocab, period)
    return np.resize(passage, len(ids))


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, rows: int, length: int) -> tuple[int, Ids]:
    """Where an epoch's first row starts in the stream, and the order of its rows."""
    rng = np.random.default_rng((seed, 1, epoch))
    return int(rng.integers(length)), rng.permutation(rows)


@dataclass(frozen=True)
class Rows:
    """The token stream cut into rows in a new random order each epoch; id 0 begins every row."""

    recipe: Recipe
    stream: NDArray[np.uint16]
    tail: NDArray[np.uint16]
    p_unigram: NDArray[np.float64]

    @classmethod
    def open(cls, run: Path, recipe: Recipe) -> "Rows":
        counts = np.load(run / "unigrams.npy", allow_pickle=False)
        stream = np.memmap(run / "tokens.u16", dtype=np.uint16, mode="r")
        return cls(recipe, stream[:-HELD_OUT], stream[-HELD_OUT:], counts / counts.sum())

    def window(self, number: int) -> Ids:
        """The `number`-th row of text of the run (n_ctx tokens): each epoch cuts at another offset and shuffles."""
        length = self.recipe.shape.n_ctx
        per_epoch = len(self.stream) // length - 1
        epoch, index = divmod(number, per_epoch)
        offset, order = epoch_order(self.recipe.seed, epoch, per_epoch, length)
        start = offset + int(order[index]) * length
        return self.stream[start : start + length].astype(np.int64)

    def step(self, step: int) -> Ids:
        """The rows of one step, [rows, n_ctx + 1]: inputs are all but the last column, targets all but the first."""
        rng = np.random.default_rng((self.recipe.seed, 2, step))
        recipe, rows = self.recipe, []
        for i in range(recipe.rows):
            ids, kind = self.window(step * recipe.rows + i), rng.random()
            if kind < recipe.repeats:
                ids = repeat(ids, recipe.shape.d_vocab, rng)
            elif rng.random() < recipe.corruption.share:
                ids, _ = corrupt(ids, recipe.corruption, self.p_unigram, rng)
            rows.append(np.concatenate([[0], ids]))
        return np.stack(rows)

    def held_out(self, rows: int) -> Tensor:
        """Clean rows [rows, n_ctx + 1] from the part of the stream that is never trained on."""
        length = self.recipe.shape.n_ctx
        text = self.tail[: rows * length].astype(np.int64).reshape(rows, length)
        return torch.from_numpy(np.pad(text, ((0, 0), (1, 0))))
