"""Run the tests that compute numbers as other processors would: each instruction set that this one has, one and two
threads.

    python -m tests.processors [--only avx2:1,avx512:2] [pytest's arguments]

Every library that sums is held to the set: PyTorch's own kernels, MKL, oneDNN and NumPy's OpenBLAS. A set that the
processor lacks is named and left out; an error in any run is the command's exit status.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]

INSTRUCTION_SETS = {
    "default": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"},
    "avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
    "avx512": {"MKL_ENABLE_INSTRUCTIONS": "AVX512", "ONEDNN_MAX_CPU_ISA": "DEFAULT", "OPENBLAS_CORETYPE": "SkylakeX"},
}
"""By the name of PyTorch's capability, from the narrowest to the widest."""

THREADS = (1, 2)


def here() -> list[str]:
    """The sets that this processor has. Elsewhere than on x86 it is PyTorch's default alone."""
    names = list(INSTRUCTION_SETS)
    best = torch.backends.cpu.get_cpu_capability().lower()
    return names[: names.index(best) + 1] if best in names else ["default"]


def files() -> list[str]:
    """The analysis, comparisons with recorded numbers, and whatever else measures with tests/tolerance.py."""
    folders = ("tests/analysis", "tests/demo", "tests/net")
    others = (
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "from tests.tolerance import" in path.read_text("utf-8")
    )
    return [*folders, *(name for name in others if not name.startswith(folders))]


def environment(capability: str, threads: int) -> dict[str, str]:
    """For a process that is to compute with this set and this many threads."""
    idle = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}  # no spinning on a busy machine
    chosen = {"ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": str(threads), **INSTRUCTION_SETS[capability]}
    return {**os.environ, **idle, **chosen}


def run(name: str, arguments: list[str]) -> str:
    """What came of one run, in words. name: an instruction set and a number of threads, as in avx2:1."""
    capability, _, threads = name.partition(":")
    if capability not in here():
        return "SKIPPED: this processor does not have it"
    print(f"\n== {name} ==", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    status = subprocess.run(command, cwd=ROOT, env=environment(capability, int(threads)), check=False).returncode
    return "passed" if status == 0 else f"FAILED: pytest's status is {status}"


def main(arguments: list[str]) -> int:
    """The exit status: 0 if the tests passed in every run."""
    names = [f"{capability}:{threads}" for capability in INSTRUCTION_SETS for threads in THREADS]
    if arguments[:1] == ["--only"]:
        names, arguments = arguments[1].split(","), arguments[2:]
    if not any((ROOT / argument.partition("::")[0]).exists() for argument in arguments):
        arguments = [*arguments, *files()]
    results = {name: run(name, arguments) for name in names}
    print()
    for name, result in results.items():
        print(f"{name:10} {result}")
    return int(any(result.startswith("FAILED") for result in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
