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
from tests import durations, real, tiny

# How long an example takes is no property of the program: on a busy machine any of them is slow.
hypothesis.settings.register_profile("no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("no clock")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--within", type=float, help="leave out files of tests beyond so many seconds of processor time")


def pytest_configure(config: pytest.Config) -> None:
    if to := os.environ.get(durations.TO):
        config.pluginmanager.register(durations.Recorder(Path(to)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that `--within` leaves out are not even imported."""
    budget = config.getoption("--within")
    if budget is None or not collection_path.is_relative_to(durations.ROOT):
        return None
    name = collection_path.relative_to(durations.ROOT).as_posix()
    return True if name in durations.within(budget, durations.recorded()) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest first, as Makefile's `--no-loadscope-reorder` keeps them: whoever begins one last keeps
    everybody waiting (a file stays with one process)."""
    seconds = durations.recorded()
    items.sort(key=lambda item: -seconds.get(item.nodeid.split("::")[0], 0.0))


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
def gemma3_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gemma 3 270M likewise."""
    scratch = tmp_path_factory.mktemp("gemma3")
    yield real.gemma3_folder(scratch)
    shutil.rmtree(scratch)  # more than a gigabyte


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
