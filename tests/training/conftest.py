"""A training run small enough for a test: a random stream of tokens and a model of a few thousand weights."""

from pathlib import Path

import numpy as np
import pytest

from training import texts
from training.model import Shape
from training.recipe import Recipe

SMALL = Recipe(
    tokens=40 * 4 * 16,
    settle_from=6 * 4 * 32,
    warmup_tokens=4 * 16,
    settle_warmup_tokens=4 * 64,
    rows=4,
    shape=Shape(d_vocab=64, n_ctx=32, n_layers=2, n_heads=2, d_model=16, d_mlp=32, slots=3, dropout=0.1),
)


@pytest.fixture
def recipe() -> Recipe:
    return SMALL


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder as `training.texts` leaves it."""
    return write_stream(tmp_path / "run")


def write_stream(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    stream = rng.zipf(1.5, texts.HELD_OUT + 5_000) % SMALL.shape.d_vocab
    stream.astype(np.uint16).tofile(folder / "tokens.u16")
    np.save(folder / "unigrams.npy", np.bincount(stream[: -texts.HELD_OUT], minlength=SMALL.shape.d_vocab))
    return folder
