"""A real server on a free port of this machine, in this process or in one of its own."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from app.core.settings import Settings
from app.operate.serve import server_config

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240.0
"""Seconds after which a socket is taken to hang."""


@contextmanager
def served(app: Any, settings: Settings) -> Iterator[int]:
    """`app` as `nullscope serve` serves it, on a thread; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(server_config(app, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's or process' doing (it polls nothing that could miss)."""
    done, pause = threading.Event(), 0.005
    while not condition():
        done.wait(pause)
        pause = min(1.2 * pause, 0.1)  # whoever asks all the time keeps the other from its work


def until_it_answers(
    client: httpx.Client, path: str, process: subprocess.Popen[Any], wanted: Callable[[httpx.Response], bool]
) -> None:
    """Until a server in another process gives the wanted answer; one that is not listening yet is asked again."""

    def given() -> bool:
        assert process.poll() is None, "the server has ended"
        with suppress(httpx.TransportError):
            return wanted(client.get(path))
        return False

    until(given)


def is_ready(answer: httpx.Response) -> bool:
    """What /readyz says once every model is loaded."""
    return answer.status_code == 200


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side ends."""
    received = b""
    while part := connection.recv(1 << 16):
        received += part
    return received


@contextmanager
def silent(port: int, how_many: int) -> Iterator[list[socket.socket]]:
    """Sockets that say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected(port)) for _ in range(how_many)]


def _bound(files: int) -> None:
    """In the new process: so many files, and an end where this one is killed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Process:
    """`nullscope serve` with a bound on its files; `log` is what it has written."""

    def __init__(self, folder: Path, model: Path, *, files: int, **environment: str) -> None:
        self.log_file = folder / "log"
        bound = {"NULLSCOPE_DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1", **environment}
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", "--port", "0", "--device", "cpu", "--model", str(model)],
                cwd=ROOT,
                env=os.environ | bound,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=lambda: _bound(files),
            )
        assert self._process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self._process.stdout.readline())
        assert found is not None, self.log
        self.port = int(found.group(1))
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE) as client:
            until_it_answers(client, "/readyz", self._process, lambda answer: "starting" not in answer.text)

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)
