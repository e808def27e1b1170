"""A disk that is full, without one: whatever is brought to it fails as the system says it."""

from __future__ import annotations

import errno
import os

import pytest


def fill(patch: pytest.MonkeyPatch) -> None:
    """From now on no file of this process gets onto the disk, whoever writes it; `patch.undo()` makes room again."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fsync", full)
