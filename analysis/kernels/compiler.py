"""The compiler's process: traces the arithmetic of a form, compiles it and writes it down (see ``libraries``).

Nothing imports this module: what it does to its process no other one should suffer.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from analysis.kernels.arithmetic import BLOCK, MIN_ROWS, Arguments, Form, reduction

NICE = 10
"""Who waits for an answer goes before the compiler."""

OPTIONS: dict[str, Any] = {
    "realize_opcount_threshold": 10_000,
    "realize_reads_threshold": 10_000,
    "realize_acc_reads_threshold": 10_000,
    "compile_threads": 1,
}
"""Nothing is to be written down between the loads and the sums: by default inductor stores long expressions that
several sums read, which here are arrays of the size of ``rows``."""


def options() -> dict[str, Any]:
    """For the compiler here. Inductor's cache on disk does not tell instruction sets apart: code generated for one
    vector width and compiled for another writes past its arrays. Named as an option, the width is part of the key."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    return {**OPTIONS, "cpp.simdlen": pick_vec_isa().bit_width()}


class _Reduction(nn.Module):
    """torch.export takes modules."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.reduce = reduction(form)

    def forward(self, base: Tensor, bases: Tensor, rows: Tensor, scalars: Tensor, direction: Tensor) -> list[Tensor]:
        sums: list[Tensor] = self.reduce(base, bases, rows, scalars, direction)
        return sums


def example(form: Form) -> Arguments:
    """Arguments of a form, drawn at random."""
    vocab, n = form.vocab or 3 * BLOCK + 17, 2 * MIN_ROWS
    drawn = torch.Generator().manual_seed(0)
    shapes = ((vocab,), (form.bases, vocab), (n, vocab), (form.scalars, n), (vocab,))
    base, bases, rows, scalars, direction = (torch.randn(shape, generator=drawn) for shape in shapes)
    return base, bases, rows, scalars, direction


def compile_here(form: Form, path: Path) -> None:
    """Write the library."""
    from torch._inductor import aoti_compile_and_package

    torch.set_num_threads(form.threads)
    rows = torch.export.Dim("rows", min=MIN_ROWS)
    if form.vocab is None:
        vocab = torch.export.Dim.DYNAMIC  # it assumes several blocks and a remainder of several, as `Form.of` does
        shapes: Any = ({0: vocab}, {1: vocab}, {0: rows, 1: vocab}, {1: rows}, {0: vocab})
    else:
        shapes = (None, None, {0: rows}, {1: rows}, None)
    with torch.no_grad():
        exported = torch.export.export(_Reduction(form), example(form), dynamic_shapes=shapes)
        with TemporaryDirectory(dir=path.parent) as folder:
            made = aoti_compile_and_package(exported, package_path=f"{folder}/made.pt2", inductor_configs=options())
            # The library alone: who loads a package unpacks it into /tmp, from where not every system runs code.
            with ZipFile(made) as archive:
                (library,) = (name for name in archive.namelist() if name.endswith(".so"))
                os.replace(archive.extract(library, folder), path)


def _end_with_parent() -> None:
    os.read(0, 1)  # ends when whoever asked is gone
    os._exit(1)


def main() -> None:
    """FORM as JSON, FILE."""
    os.nice(NICE)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    plain, path = sys.argv[1:]
    try:
        compile_here(Form.from_json(json.loads(plain)), Path(path))
    except Exception as error:  # the compiler's own failures have no common type; the last line is what is told
        traceback.print_exc()
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        sys.stderr.write(f"{first}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
