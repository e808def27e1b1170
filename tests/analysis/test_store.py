"""A crash at any moment loses nothing finished, damage is found, and the resumed result is the same bytes."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import store
from analysis.model import Model
from analysis.store import RunFolder
from analysis.sweep.executor import InProcess
from analysis.sweep.run import read, run, start
from analysis.sweep.worker import Worker
from analysis.types import DiskFullError, InputError, NotFoundError
from tests import tiny
from tests.analysis.test_sweep import CONFIG, TEXTS


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny.model("gpt2")


def advance(folder: RunFolder, model: Model) -> None:
    """Start or resume the run and finish it."""
    config = CONFIG.settled(model)
    for _ in start(folder, model, None, config, TEXTS, "test"):
        pass
    for _ in run(folder, model, None, InProcess(Worker.build(model, None, config))):
        pass


def contents(folder: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    advance(folder, model)
    return contents(folder)


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child process that has everything loaded already; its id."""
    if (child := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def heard(reader: int) -> bool:
    """Wait for the child's next byte; False when it has ended."""
    assert select.select([reader], [], [], 120)[0], "the child neither wrote nor ended"
    return bool(os.read(reader, 1))


def killed_after(folder: RunFolder, model: Model, syncs: int, seconds: float) -> None:
    """Killed that long after so many files and folders have been synced: however slow the machine, in its midst."""
    reader, writer = os.pipe()

    def telling() -> None:
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            os.write(writer, b"!")

        os.fsync = fsync  # in the child only
        advance(folder, model)

    child = forked(telling)
    os.close(writer)
    while syncs and heard(reader):
        syncs -= 1
    time.sleep(seconds)  # the moment of the kill is what is being tried, nothing waits for it
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)


def test_killed_at_twenty_random_moments(tmp_path: Path, model: Model, uninterrupted: dict[str, bytes]) -> None:
    folder = RunFolder(tmp_path / "run")
    moments = random.Random(0)
    finished: set[str] = set()
    for _ in range(20):
        killed_after(folder, model, moments.randrange(4), moments.uniform(0.0, 0.02))
        here = {
            name for name in contents(folder) if name.endswith(".safetensors") and not Path(name).name.startswith(".")
        }
        assert finished <= here, "a finished shard was lost"
        finished = here
    advance(folder, model)
    assert contents(folder) == uninterrupted


@pytest.mark.parametrize("write", range(1, 12, 3))
def test_killed_in_the_middle_of_a_write(
    tmp_path: Path, model: Model, uninterrupted: dict[str, bytes], write: int
) -> None:
    """The child stops inside the nth write, between the bytes and the rename, and is killed there."""
    folder = RunFolder(tmp_path / "run")
    reader, writer = os.pipe()

    def stop_at_the_nth() -> None:
        left = [2 * write]  # a file and its folder are synced for each write

        def fsync(descriptor: int) -> None:
            left[0] -= 1
            if left[0] == 1:
                os.write(writer, b"!")
                time.sleep(600)

        os.fsync = fsync  # in the child only
        advance(folder, model)

    child = forked(stop_at_the_nth)
    os.close(writer)
    assert heard(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    assert any(name.endswith(".tmp") for name in contents(folder))
    advance(folder, model)
    assert contents(folder) == uninterrupted


@pytest.mark.parametrize("stage", ["baselines", "effects"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damage_is_found_and_the_shard_computed_again(
    tmp_path: Path, model: Model, uninterrupted: dict[str, bytes], stage: str, damage: str
) -> None:
    folder = RunFolder(tmp_path / "run")
    for name, content in uninterrupted.items():
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(content)
    (folder.path / store.RESULT).unlink()
    victim = sorted((folder.path / stage).iterdir())[2]
    content = victim.read_bytes()
    middle = len(content) // 2
    damaged = {
        "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "truncate": content[:middle],
        "empty": b"",
    }
    victim.write_bytes(damaged[damage])
    assert folder.get(stage, 2) is None
    advance(folder, model)
    assert contents(folder) == uninterrupted


def test_a_damaged_result_is_merged_again(tmp_path: Path, model: Model, uninterrupted: dict[str, bytes]) -> None:
    folder = RunFolder(tmp_path / "run")
    advance(folder, model)
    table = folder.path / "neurons.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    assert read(folder) is None
    advance(folder, model)
    assert contents(folder) == uninterrupted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB, where this machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs privileges")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_said_and_the_run_resumes(
    small_disk: Path, model: Model, uninterrupted: dict[str, bytes]
) -> None:
    folder = RunFolder(small_disk / "run")
    with pytest.raises(DiskFullError, match="disk is full"):
        advance(folder, model)
    kept = contents(folder)
    assert kept
    assert not any(name.endswith(".tmp") for name in kept)
    subprocess.run(["mount", "-o", "remount,size=10m", small_disk], check=True)
    advance(folder, model)
    assert contents(folder) == uninterrupted


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({"config": 1, "model": "a"})
    folder.create({"config": 1, "model": "a"})
    with pytest.raises(InputError, match="differs in: config, more"):
        folder.create({"config": 2, "model": "a", "more": None, "format": 1} | {"format": None, "more": 3})
    with pytest.raises(NotFoundError):
        RunFolder(tmp_path / "nothing").manifest()


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1),
        st.lists(st.floats(allow_nan=False), max_size=5).map(lambda x: np.array(x, dtype=np.float64)),
        max_size=5,
    )
)
def test_arrays_come_back_and_equal_arrays_are_equal_bytes(arrays: dict[str, np.ndarray]) -> None:
    content = store.pack(arrays)
    found = store.unpack(content)
    assert found.keys() == arrays.keys()
    assert all((found[name] == arrays[name]).all() for name in arrays)
    assert store.pack(dict(reversed(arrays.items()))) == content
