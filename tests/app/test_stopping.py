"""A server that is told to stop is gone soon, whatever computes; long work beside a model lets others in between."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import torch
from starlette.testclient import TestClient

from analysis import nullspace
from analysis.progress import Progress
from app.core.request import NothingAsked
from app.effects.answer import ledger
from app.effects.request import LedgerRequest
from app.effects.view import LedgerView
from app.server.check import check
from app.server.view import CheckView
from tests import tiny
from tests.app.served import PATIENCE, ROOT, is_ready, until_it_answers

STUCK = """
import sys, threading
from analysis import selfcheck

def steps(model, **_):
    print("stuck", flush=True)
    threading.Event().wait()  # one layer that takes for ever and asks nobody
    yield

selfcheck.steps = steps
from app.cli import main
main()
"""


def test_a_layer_that_takes_for_ever_does_not_hold_the_process(model_folder: Path, tmp_path: Path) -> None:
    """Were it waited for, the process would never end."""
    command = [sys.executable, "-c", STUCK, "serve", "--port", "0", "--device", "cpu", "--model", str(model_folder)]
    environment = os.environ | {"NULLSCOPE_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None
            with httpx.Client(base_url=found[0], timeout=PATIENCE) as client:
                until_it_answers(client, "/readyz", process, is_ready)
            asking = threading.Thread(target=_asked, args=(f"{found[0]}/api/v1/models/tiny-gpt2/check",))
            asking.start()
            assert process.stdout.readline() == "stuck\n"
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE)
            asking.join()
        finally:
            process.kill()
    assert process.returncode == 0
    assert "what was still computing" in errors


def _asked(address: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.get(address, timeout=PATIENCE)


def test_check_and_ledger_make_the_spectrum_a_block_a_step(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: what comes later finds it."""
    monkeypatch.setattr(nullspace, "block_width", lambda d_model: 64)
    resident = make_client().app.state.host.entry("tiny-gpt2").replicas[0][1]  # type: ignore[attr-defined]
    with torch.inference_mode():
        *steps, view = check(resident, NothingAsked())
        (book,) = ledger(resident, LedgerRequest(text="The cat sat", position=1))
    assert isinstance(view, CheckView)
    assert isinstance(book, LedgerView)
    stages = [step.stage for step in steps if isinstance(step, Progress)]
    assert stages == [*["identities"] * 5, *["spectrum"] * math.ceil(tiny.D_VOCAB / 64)]
