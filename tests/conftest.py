"""Fixtures of the whole suite: factories, read-only models shared by a session, nothing that hides state."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is a mistake: fail at once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from analysis.model import Model
from tests import tiny

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Model]:
    """``tiny_model("llama", dtype=torch.float32)``: one shared, read-only model for each set of arguments."""
    return cache(tiny.model)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is absent")
    return folder
