"""A run that is killed at any moment and started again is the run that never stopped."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.conftest import SMALL, write_stream
from training.loop import Run, train
from training.recipe import Recipe

STEPS = 12


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    run = Run(write_stream(tmp_path_factory.mktemp("whole") / "run"), SMALL)
    return [record["loss"] for record in train(run, until=STEPS)]


def logged(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [(record["step"], record["loss"]) for record in map(json.loads, lines)]


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stop=st.integers(1, STEPS - 1), save_every=st.integers(1, 5))
def test_abandoned_at_any_step_the_loss_curve_is_the_same(
    stop: int, save_every: int, uninterrupted: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_stream(tmp_path_factory.mktemp("part") / "run")
    for record in train(Run(folder, SMALL), save_every=save_every, until=STEPS):
        if record["step"] == stop:
            break  # after the step is logged and before anything is saved
    for _ in train(Run(folder, SMALL), save_every=save_every, until=STEPS):
        pass
    assert logged(folder) == list(enumerate(uninterrupted))


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.training.conftest import SMALL
from training.loop import Run, train
for record in train(Run(Path(sys.argv[1]), SMALL), save_every=3, until=10**6):
    print(record["step"], flush=True)
"""


def test_killed_without_warning_it_goes_on(uninterrupted: list[float], run_folder: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(run_folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 7:
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    child.wait()
    for _ in train(Run(run_folder, SMALL), until=STEPS):
        pass
    assert logged(run_folder)[:STEPS] == list(enumerate(uninterrupted))


def test_a_torn_last_line_of_the_log_is_dropped(run_folder: Path) -> None:
    for _ in train(Run(run_folder, SMALL), save_every=2, until=4):
        pass
    with (run_folder / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    Run(run_folder, SMALL)
    assert [step for step, _ in logged(run_folder)] == [0, 1, 2, 3]


def test_the_seed_decides_the_run(run_folder: Path, tmp_path: Path, recipe: Recipe) -> None:
    def losses(folder: Path, seed: int) -> list[float]:
        return [record["loss"] for record in train(Run(folder, replace(recipe, seed=seed)), until=3)]

    again = write_stream(tmp_path / "again")
    other = write_stream(tmp_path / "other")
    assert losses(other, 1) != losses(write_stream(tmp_path / "same"), 0)
    assert losses(run_folder, 0) == losses(again, 0)


def test_a_run_of_another_recipe_is_not_gone_on_with(run_folder: Path, recipe: Recipe) -> None:
    for _ in train(Run(run_folder, recipe), until=2):
        pass
    before = {path.name: path.read_bytes() for path in run_folder.glob("*.*")}
    with pytest.raises(ValueError, match="another recipe"):
        Run(run_folder, replace(recipe, seed=1))
    assert {path.name: path.read_bytes() for path in run_folder.glob("*.*")} == before


def test_the_slots_of_the_unembedding_stay_closed(run_folder: Path, recipe: Recipe) -> None:
    run = Run(run_folder, recipe)
    for _ in train(run, until=5):
        pass
    assert torch.equal(run.model.unembed[:, -3:], torch.zeros(64, 3))
    assert run.model.unembed[:, :-3].abs().min() > 0
