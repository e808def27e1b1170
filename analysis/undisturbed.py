"""A forward pass beside a thread that compiles kernels.

torch.fx replaces ``nn.Module.__call__`` for the whole process while it traces (some 10 ms of a compilation of our
kernels), and a module that another thread calls meanwhile is told that it is no part of the trace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MOST_DISTURBANCES = 1000


def undisturbed(forward: Callable[[], T]) -> T:
    """The result of ``forward``, begun again where a tracer got in its way. Hooks of the pass may run twice."""
    for _ in range(MOST_DISTURBANCES):
        try:
            return forward()
        except NameError as error:
            if "not installed as a submodule" not in str(error):
                raise
            time.sleep(0.005)
    return forward()
