"""Faults that no test once caught, put back one at a time: each must be caught now.

    python -m tests.mutations            all of them, a line each; exit code 1 if one is not caught
    python -m tests.mutations "label"    those with this word in their name

Each is made in a copy of the tree, in which the tests that should catch it are run: without it, where they must pass,
and with it. A fault that cannot be tried counts as not caught, and keeps no other from being tried: its tests fail
without it, or its text is no longer found (the code has moved, and its place here moves with it).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "runs")


@dataclass(frozen=True)
class Fault:
    """What is put back: in ``file``, ``now`` becomes ``then``. tests: what should catch it."""

    name: str
    file: str
    now: str
    then: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "the label ignores chance",
        "analysis/labels.py",
        "_strictest(t.entropy_rho, t.entropy_rho_chance * c.chance_rho)",
        "t.entropy_rho",
        ("tests/analysis/test_atlas.py",),
    ),
    Fault(
        "the key of the atlas' cache lacks the dtype",
        "app/core/residency/cache.py",
        """repr((model.weights_sha256, model.dtype, model.form_sha256, kind.name, self.inputs, kind.code))
        return f"{model.weights_sha256[:12]}-{model.dtype}-{hashlib""",
        """repr((model.weights_sha256, model.form_sha256, kind.name, self.inputs, kind.code))
        return f"{model.weights_sha256[:12]}-{hashlib""",
        ("tests/app/test_cache.py",),
    ),
    Fault(
        "what is in flight is known without its model",
        "app/core/residency/host.py",
        "return InFlight(entry.load, entry.identity, question)",
        "return InFlight(0, None, question)",
        ("tests/app/test_reloaded.py::test_equal_requests_in_flight_on_two_models_have_two_answers",),
    ),
    Fault(
        "anybody may load and unload models",
        "app/core/access/roles.py",
        "ROLES.index(role) >= ROLES.index(need)",
        'need == "admin" or ROLES.index(role) >= ROLES.index(need)',
        ("tests/security/test_roles.py",),
    ),
    Fault(
        "unreliable fractions are evidence",
        "analysis/evidence.py",
        'if f"{name}.reliable" in result.table and not result.table[f"{name}.reliable"][place]:',
        "if False:",
        ("tests/app/test_evidence.py",),
    ),
    Fault(
        "controls are not as long as what they control",
        "analysis/controls.py",
        "norms = readout.W_out[list(indices)].double().norm(dim=1)",
        "norms = readout.W_out.double().norm(dim=1).median().expand(len(indices))",
        ("tests/analysis/test_controls.py",),
    ),
    Fault(
        "the strongest set ignores chance",
        "analysis/sets.py",
        "found: ndarray = size > self.chance(path)",
        "found: ndarray = size > 0",
        ("tests/analysis/test_sets.py",),
    ),
    Fault(
        "a caption claims a sign that its interval leaves open",
        "analysis/figures/said.py",
        "return 1 if self.low > 0 else -1 if self.high < 0 else 0",
        "return 1 if self.value > 0 else -1",
        ("tests/analysis/test_captions.py",),
    ),
    Fault(
        "the unknown token is what transformers calls so",
        "analysis/unread.py",
        "if self._backend is None:\n            found: int | None",
        "if True:\n            found: int | None",
        ("tests/analysis/test_unread.py",),
    ),
)


def caught(fault: Fault, folder: Path) -> bool:
    """Whether one of the fault's tests, which pass without it, fails in the copy ``folder``: as before afterwards."""
    path = folder / fault.file
    text = path.read_text("utf-8")
    if text.count(fault.now) != 1:
        raise LookupError(f"{fault.file} holds {text.count(fault.now)} times: {fault.now}")
    if _fail(fault.tests, folder):
        raise AssertionError(f"{', '.join(fault.tests)} fail without the fault, so that they can show nothing")
    path.write_text(text.replace(fault.now, fault.then), "utf-8")
    try:
        return _fail(fault.tests, folder)
    finally:
        path.write_text(text, "utf-8")


def tried(fault: Fault, folder: Path) -> str:
    """The verdict; one fault that cannot be tried keeps none of the others from it."""
    try:
        return "caught" if caught(fault, folder) else "MISSED"
    except (AssertionError, LookupError, RuntimeError) as error:
        return f"UNTRIED ({error})"


def _fail(tests: tuple[str, ...], folder: Path) -> bool:
    """Whether one of these fails. RuntimeError where they do not run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 1


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def main(wanted: str = "") -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(ROOT, Path(scratch) / "tree", ignore=LEFT))
        for fault in FAULTS:
            if wanted in fault.name:
                verdict = tried(fault, folder)
                missed += verdict != "caught"
                print(f"{verdict}  {fault.name}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
