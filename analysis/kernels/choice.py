"""Which backend answers: asked for by name, or the best that this machine has."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch

from analysis.kernels.compiled import Compiled
from analysis.kernels.eager import Eager
from analysis.kernels.tile import Sums, Tile
from analysis.types import InputError

BackendName = Literal["auto", "eager", "compiled", "triton"]


@runtime_checkable
class Backend(Protocol):
    """Reduces a tile; ``name`` goes into the manifest of a sweep."""

    @property
    def name(self) -> str: ...

    @property
    def compiling(self) -> bool:
        """Whether slower kernels answer for now, until faster ones are compiled."""

    @property
    def failure(self) -> str | None:
        """Why slower kernels answer for good; None where they do not."""

    def __call__(self, tile: Tile) -> tuple[Sums, ...]: ...


def choose(name: BackendName = "auto", *, device: torch.device | str = "cpu", wait: bool = False) -> Backend:
    """The backend of that name; ``auto``: triton on CUDA, compiled where a C++ compiler is, else eager.

    wait: a compiled backend compiles when first called and waits, instead of answering eagerly meanwhile.
    InputError when the machine cannot run the one that was asked for.
    """
    kind = torch.device(device).type
    if name == "eager":
        return Eager()
    if name == "compiled" or (name == "auto" and kind == "cpu" and has_compiler()):
        return _compiled(kind, wait)
    if name == "triton" or (name == "auto" and kind == "cuda" and has_triton()):
        return _triton(kind)
    return Eager()


def _compiled(kind: str, wait: bool) -> Backend:
    if kind != "cpu":
        raise InputError(f"The compiled backend runs on cpu, not on {kind}.", hint="Choose triton or eager.")
    if not has_compiler():
        raise InputError("The compiled backend needs a C++ compiler.", hint="Install g++, or choose eager.")
    return Compiled(wait=wait)


def _triton(kind: str) -> Backend:
    if kind != "cuda" or not has_triton():
        raise InputError("The triton backend needs a CUDA device and the triton package.", hint="Choose auto.")
    from analysis.kernels.fused import Triton  # imports triton

    return Triton()


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError):
        return False
    return True


def has_triton() -> bool:
    """Whether the triton package is installed."""
    from importlib.util import find_spec

    return find_spec("triton") is not None
