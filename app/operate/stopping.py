"""The end of a server: requests get a moment to finish, and what computes beyond it does not hold the process."""

import logging
import os
import threading
from types import FrameType

import uvicorn

log = logging.getLogger(__name__)

GRACE = 2
"""Seconds that running requests have; then they are cancelled, and the work on the device ends at its next check."""
LAST = 4.5
"""Seconds after which the process ends whatever still computes: one long product of matrices, a model half loaded. What
is written is whole all the same: files are renamed into place, the database has transactions, jobs go on next time."""


class Server(uvicorn.Server):
    """uvicorn, gone within five seconds of the first signal."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            last = threading.Timer(LAST, _leave)
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)


def _leave() -> None:
    log.warning("what was still computing %g s after the signal is left", LAST)
    os._exit(0)
