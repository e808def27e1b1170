"""Locks between processes, on open files (flock): what a process held is free again when it ends, however it ends.

with alone(path): ...                          # one writer at a time
with DataFolder(path).held("restore"): ...     # nobody else works with the data folder
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

from analysis.types import InputError
from app.core.errors import ConflictError

Use = Literal["server", "command", "restore"]
# Named as in versions in which only a server with jobs held it: such a server and one of today exclude each other.
SERVER = "jobs.lock"
OPEN = "open.lock"  # shared by all that read or write the database, held alone by what replaces it
# (file, how it is locked) for each use of a data folder.
HOLDS: dict[Use, tuple[tuple[str, int], ...]] = {
    "server": ((SERVER, fcntl.LOCK_EX), (OPEN, fcntl.LOCK_SH)),
    "command": ((OPEN, fcntl.LOCK_SH),),
    "restore": ((SERVER, fcntl.LOCK_EX), (OPEN, fcntl.LOCK_EX)),
}


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which is made where there is none; waits for whoever holds it now."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class DataFolder:
    """A data folder, and what this process does with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: list[TextIO] = []

    def hold(self, use: Use) -> None:
        """Take the folder until `release`; a second call changes nothing.

        One server at a time, commands beside it, a restore beside nobody: else ConflictError, which names the other
        process where that is known. InputError where the folder cannot be written or its file system has no locks.
        """
        if self._held:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name, how in HOLDS[use]:
                self._held.append(self._taken(name, how))
            if use != "command":
                _sign(self._held[0], use)
        except OSError as error:
            self.release()
            raise InputError(
                f"The data folder {self.path} cannot be locked: {error.strerror or error}.",
                code="data_folder",
                hint="It must be writable, on a file system with locks: set NULLSCOPE_DATA_DIR or --data-dir.",
            ) from None
        except ConflictError:
            self.release()
            raise

    @contextlib.contextmanager
    def held(self, use: Use) -> Iterator[None]:
        """`hold` for a block."""
        self.hold(use)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let others have it."""
        for file in self._held:
            file.close()
        self._held = []

    def _taken(self, name: str, how: int) -> TextIO:
        file = (self.path / name).open("a+")
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except OSError as error:
            said = _signature(file)
            file.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise self._in_use(name, how, said) from None
        return file

    def _in_use(self, name: str, how: int, said: dict[str, Any]) -> ConflictError:
        if name == SERVER:
            other = f"A {said.get('use', 'server')} works with {self.path}"
            where = f": process {said['pid']} on {said['host']}" if "pid" in said else ""
            hint = "Stop it first, or give this one a data folder of its own: NULLSCOPE_DATA_DIR or --data-dir."
            return ConflictError(f"{other}{where}.", code="data_folder_in_use", hint=hint)
        other = "A command" if how == fcntl.LOCK_EX else "A restore"
        hint = "Wait until it is done, or stop it."
        return ConflictError(f"{other} works with {self.path}.", code="data_folder_in_use", hint=hint)


def _sign(file: TextIO, use: Use) -> None:
    """Who holds the lock, for whoever is refused."""
    file.truncate(0)
    file.write(json.dumps({"use": use, "pid": os.getpid(), "host": socket.gethostname()}))
    file.flush()


def _signature(file: TextIO) -> dict[str, Any]:
    """What the holder wrote; empty where it wrote nothing that can be read."""
    with contextlib.suppress(OSError, ValueError):
        file.seek(0)
        found = json.loads(file.read(1000))
        if isinstance(found, dict) and {"pid", "host"} <= found.keys():
            return found
    return {}
