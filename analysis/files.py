"""Files that are there whole or not at all, and the one error of a disk that is full.

    with replaced(path) as name: save_to(name)        # whatever writes to a name
    with atomic_file(path) as file: file.write(...)
    with on_disk("the rows"): ...                     # files whose owner tidies up

What is written goes to a temporary name beside the file, is fsynced and renamed, and the folder is fsynced.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from analysis.types import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk (or the user's share of it) is full, in whatever words: safetensors has its
    own."""
    return (isinstance(error, OSError) and error.errno in FULL) or "No space left on device" in str(error)


def disk_full(what: str) -> DiskFullError:
    """The one wording."""
    return DiskFullError(
        f"The disk is full: {what} could not be written.",
        hint="Delete uploads, sweeps or results that nobody needs, or make room otherwise; what was finished is kept.",
    )


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """DiskFullError where the block finds the disk full."""
    try:
        yield
    except Exception as error:
        if is_full(error) and not isinstance(error, DiskFullError):
            raise disk_full(what) from error
        raise


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """The name to write to; the file appears under ``path`` once the block has ended well, and else leaves nothing.

    DiskFullError when the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with on_disk(path.name):
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """The same as an open file."""
    with replaced(path) as temporary, temporary.open("wb") as file:
        yield file


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
