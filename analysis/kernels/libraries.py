"""Compiled forms as libraries, each made by a process of its own.

    path = library(form)            # compiled where no process of this machine has done so before
    function = load(path)           # maps machine code; nothing is traced

Tracing replaces ``nn.Module.__call__`` for a whole process and would get into the way of the forward passes there, and
its compilations share limits with everybody's: so a process that serves traces nothing. The files lie in the folder of
torch's own compiler, under the hash of the form, the code, the version of torch and the processor.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from analysis.kernels.arithmetic import Form, Function

LONGEST = 900.0
"""Seconds after which a compiler is given up."""


def load(path: Path) -> Function:
    """The function of a library."""
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)

    def function(*given: Tensor) -> list[Tensor]:
        sums: list[Tensor] = runner.run(list(given))
        return sums

    return function


def library(form: Form) -> Path:
    """The file of a compiled form. RuntimeError with the compiler's last words when there is none to be had."""
    path = _folder() / f"{_name(form)}.so"
    if not path.is_file():
        with _alone(path.with_suffix(".lock")):
            if not path.is_file():
                _compile_elsewhere(form, path)
    return path


def _folder() -> Path:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    found = Path(cache_dir()) / "nullscope"
    found.mkdir(parents=True, exist_ok=True)
    return found


def _name(form: Form) -> str:
    plain = json.dumps([asdict(form), torch.__version__, _processor(), _code()], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:32]


@cache
def _code() -> str:
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in ("arithmetic.py", "compiler.py"))).hexdigest()


@cache
def _processor() -> str:
    """What the machine code may use."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    named = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *named[:2]])


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Among all processes of this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile_elsewhere(form: Form, path: Path) -> None:
    command = [sys.executable, "-m", "analysis.kernels.compiler", json.dumps(asdict(form)), str(path)]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe) as child:
        late = threading.Timer(LONGEST, child.kill)
        late.start()
        try:
            assert child.stderr is not None
            words = child.stderr.read().decode(errors="replace").split("\n")
        finally:
            late.cancel()
    if child.returncode != 0 or not path.is_file():
        last = next((line.strip() for line in reversed(words) if line.strip()), "it said nothing")
        raise RuntimeError(f"the compiler ended with status {child.returncode}: {last[:300]}")
