"""`make audit` passes only when everything was looked up and nothing was found."""

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FLAW = {"id": "CVE-2026-0001", "fix_versions": ["2.0"], "aliases": [], "description": "bad"}
CLEAN = {"name": "a", "version": "1.0", "vulns": []}
FLAWED = {"name": "b", "version": "1.0", "vulns": [FLAW]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1.0)"}


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "audit.py"))


def answer(stdout: str, code: int, stderr: str = "") -> Any:
    return lambda command: subprocess.CompletedProcess(command, code, stdout, stderr)


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "1 packages, no known advisory"),
        ([CLEAN, FLAWED], 1, "b 1.0: CVE-2026-0001, fixed in 2.0"),
        ([CLEAN, UNKNOWN], 2, "1 of 2 packages could not be looked up (c)"),
        ([UNKNOWN] * 9, 2, "the audit needs the network"),
        ([FLAWED, UNKNOWN], 1, "Nothing is known about them"),
        ([], 2, "0 of 0"),
    ],
)
def test_what_was_not_looked_up_is_no_pass(
    script: dict[str, Any], packages: list[dict[str, Any]], code: int, said: str
) -> None:
    # pip-audit itself ends with 0 where it found nothing, looked up or not
    report = answer(json.dumps({"dependencies": packages, "fixes": []}), int(FLAWED in packages))
    found, lines = script["audit"](["a==1.0"], report)
    assert (found, said in " ".join(lines)) == (code, True), lines


@pytest.mark.parametrize("stdout", ["", "no JSON", "[]", "{}"])
def test_a_tool_that_gives_no_answer_is_no_pass(script: dict[str, Any], stdout: str) -> None:
    code, lines = script["audit"](["a==1.0"], answer(stdout, 0, "ERROR: connection refused"))
    assert code == 2
    assert lines[0] == "Nothing was checked: ERROR: connection refused"


def test_what_is_installed_is_named_as_pypi_names_it(script: dict[str, Any]) -> None:
    names = list(script["requirements"]())
    assert any(name.startswith("torch==") for name in names)
    assert [name for name in names if "+" in name or name.startswith("nullscope=")] == []


def test_make_passes_the_verdict_on(tmp_path: Path) -> None:
    """The target of the Makefile, with a Python that finds something."""
    for code in (0, 1, 2):
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\ncase "$1" in .ci/audit.py) exit {code};; esac\nexit 9\n')
        python.chmod(0o755)
        command = ["make", "-s", "-o", ".venv/.installed", "audit", f"BIN={tmp_path}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is (code == 0), done.stderr
