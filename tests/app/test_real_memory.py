"""What real models take beside what is said before: loading, and each question. Peaks: in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.served import ROOT
from tests.real_memory import BUDGET

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from Linux' /proc"),
]

MODELS = {"smollm2": ("smollm2_folder", 64), "gemma3": ("gemma3_folder", 12)}
"""Folder's fixture, and tokens of the prompt."""
BY_THE_ENGINE = ("effects", "joint", "dose")
"""They work in the engine's budget, which is reserved beside what is admitted for a request."""


def told(*command: str) -> Any:
    """What a module of this repository prints as JSON. Large blocks are the system's again as soon as they are free, so
    that a peak is what was held, not what the allocator kept for later."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> tuple[Path, int]:
    fixture, n_tokens = MODELS[request.param]
    return request.getfixturevalue(fixture), n_tokens


def test_loading_takes_what_was_said_before_within_a_fifth(model: tuple[Path, int]) -> None:
    found = told("benchmarks.real", "loading", str(model[0]))
    assert abs(found["needed"] - found["peak"]) <= 0.2 * found["peak"], found


def test_each_question_takes_less_than_was_admitted(model: tuple[Path, int]) -> None:
    folder, n_tokens = model
    found = told("tests.real_memory", str(folder), str(n_tokens))
    assert {"trace", "effects", "joint", "dose", "ledger", "lens", "check"} == found.keys()
    for name, (admitted, peak) in found.items():
        assert 0 < peak <= admitted + (BUDGET if name in BY_THE_ENGINE else 0), (name, found)
