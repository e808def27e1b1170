"""Which code computed a number: what is kept on disk is kept under a hash of it."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "transformers", "transformer_lens")


@cache
def version(*modules: str) -> str:
    """12 hex digits over the source of some modules, of every module of ``analysis`` that they import, directly or not,
    and the versions of the libraries that compute."""
    digest = hashlib.sha256()
    for name in sorted(closure(*modules)):
        digest.update(f"{name}\n".encode() + _file(name).read_bytes())
    for library in LIBRARIES:
        try:
            digest.update(f"{library} {installed(library)}".encode())
        except PackageNotFoundError:
            digest.update(library.encode())
    return digest.hexdigest()[:12]


def closure(*modules: str) -> set[str]:
    """The modules and what they import of ``analysis``, at any depth. ModuleNotFoundError for one that is not ours."""
    found, left = set(), list(modules)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _imports(name)
    return found


def _imports(module: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == "analysis" and _is_module(name)]


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    raise ModuleNotFoundError(f"{module} has no source here.")
