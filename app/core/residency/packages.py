"""Models that come in a package of the Python index: installed by pip into the data folder, checked, converted once.

pip is asked for one exact version and no dependency of it, into a folder of its own: nothing of this program changes,
and no code of the package is ever imported.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis import dequantized
from analysis.registry import ModelSpec, Package
from analysis.types import NotFoundError
from app.core.errors import UnavailableError

Run = Callable[[Sequence[str]], tuple[int, str]]
"""A command -> (exit code, what it printed)."""


def run(command: Sequence[str]) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def file_of(package: Package, data_dir: Path) -> Path:
    """Where the package's file lies once it is installed."""
    return data_dir / "packages" / f"{package.name}-{package.version}" / package.file


def local(spec: ModelSpec, data_dir: Path) -> Path | None:
    """The folder of a model with a GGUF file of its own or of a package; None where it is not converted yet."""
    if spec.package is not None:
        return dequantized.converted(file_of(spec.package, data_dir), spec.package.sha256)
    return None if spec.gguf is None else dequantized.converted(spec.gguf)


def fetch(spec: ModelSpec, data_dir: Path, *, allow_download: bool, command: Run | None = None) -> Path:
    """The same, installed and converted where it is not there. NullscopeError with one sentence where that fails."""
    if spec.gguf is not None:
        return dequantized.convert(spec.gguf, spec.key)
    assert spec.package is not None
    file = file_of(spec.package, data_dir)
    if not file.is_file() and local(spec, data_dir) is None:
        if not allow_download:
            raise NotFoundError(
                f"{spec.key} is not on this machine, and downloads are switched off.",
                code="not_downloaded",
                hint="Set NULLSCOPE_ALLOW_DOWNLOAD=true, or serve a local folder.",
            )
        _install(spec.package, data_dir, command or run)
    return dequantized.convert(file, spec.key, spec.package.sha256)


def _install(package: Package, data_dir: Path, command: Run) -> None:
    """The package's files into a folder of their own, which appears whole or not at all."""
    folder = data_dir / "packages" / f"{package.name}-{package.version}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    wanted = f"{package.name}=={package.version}"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--only-binary=:all:")
    try:
        code, printed = command(
            [*pip, "--quiet", "--retries=1", "--timeout=20", f"--target={temporary}", "--no-compile", wanted]
        )
        if code != 0:
            raise UnavailableError(
                f"{wanted} could not be installed: {_reason(printed)}",
                code="package_unreachable",
                hint="Check the network, the package index and the room on the disk, then try again.",
            )
        if not (temporary / package.file).is_file():
            raise NotFoundError(f"{wanted} holds no {package.file}.", code="no_such_model")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _reason(printed: str) -> str:
    """The last error that pip names, in one line; pip says first what it tried."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it says nothing"])[-1][:200]
