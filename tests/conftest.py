"""Fixtures of the whole suite: factories, read-only models shared by a session, nothing that hides state."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is a mistake: fail at once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# No server of the tests, in this process or another, compiles in the background; a test that is about it says so.
os.environ.setdefault("NULLSCOPE_EFFECTS_BACKEND", "eager")
os.environ.setdefault("NULLSCOPE_REQUEST_SECONDS", "36000")  # a busy machine answers what an idle one does

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import torch

from analysis.model import Model
from tests import real, tiny

# How long an example takes is no property of the program: on a busy machine any of them is slow.
hypothesis.settings.register_profile("no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("no clock")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


LONG = (
    "tests/app/test_ray_engine.py",
    "tests/app/test_forms.py",
    "tests/app/test_sweep_turns.py",
    "tests/app/test_reloaded.py",
    "tests/net/test_net.py",
    "tests/browser/",
    "tests/app/test_exports.py",
    "tests/training/test_card.py",
    "tests/analysis/test_distributed.py",
    "tests/app/test_sweep_killed.py",
    "tests/app/test_faults.py",
    "tests/contracts/test_openapi.py",
    "tests/app/test_event_loop.py",
    "tests/app/test_isolation.py",
    "tests/soak/",
)
"""Files that take longest, first: whoever begins one last keeps everybody waiting (a file stays with one process)."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest first, as Makefile's `--no-loadscope-reorder` keeps them."""
    rank = {
        item: next((at for at, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG)) for item in items
    }
    items.sort(key=rank.__getitem__)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Model]:
    """``tiny_model("llama", dtype=torch.float32)``: one shared, read-only model for each set of arguments."""
    return cache(tiny.model)


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SmolLM2 converted from its package; a test that asks for it is marked `real`."""
    scratch = tmp_path_factory.mktemp("smollm2")
    yield real.smollm2_folder(scratch)
    shutil.rmtree(scratch)  # half a gigabyte


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> Model:
    """One for all tests, read only."""
    return real.smollm2_model(smollm2_folder)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is absent")
    return folder
