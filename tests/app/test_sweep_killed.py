"""A server killed with SIGKILL during a sweep goes on with it after the restart, and the result is the same bytes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.app.served import PATIENCE, is_ready, until_it_answers

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys, uvicorn
from app.main import create_app
from app.core.settings import Settings
settings = Settings(data_dir=sys.argv[1], models=(sys.argv[2],), device="cpu", effects_backend="eager", threads=1)
uvicorn.run(create_app(settings), fd=int(sys.argv[3]), log_level="warning")
"""


class Server:
    """A server process on a socket that this process keeps open."""

    def __init__(self, data_dir: Path, model: Path) -> None:
        self.data_dir, self.model = data_dir, model
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.socket.getsockname()[1]}", timeout=PATIENCE)
        self.start()

    def start(self) -> None:
        handle = self.socket.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self.data_dir), str(self.model), str(handle)],
            cwd=ROOT,
            pass_fds=[handle],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def until_ready(self) -> None:
        until_it_answers(self.client, "/readyz", self.process, is_ready)

    def sweep(self, sweep_id: str) -> dict[str, Any]:
        return self.client.get(f"/api/v1/sweeps/{sweep_id}", params={"limit": 1000}).json()

    def until(self, sweep_id: str, condition: Any) -> dict[str, Any]:
        pause = 0.005
        while not condition(view := self.sweep(sweep_id)):  # asking is all that one can do with another process
            assert self.process.poll() is None
            assert view["state"] in ("queued", "running"), view
            time.sleep(pause := min(1.2 * pause, 0.1))
        return view


def files(data_dir: Path, sweep_id: str) -> dict[str, bytes]:
    folder = data_dir / "sweeps" / sweep_id
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_killed_server_goes_on(tmp_path: Path, model_folder: Path) -> None:
    server = Server(tmp_path / "data", model_folder)
    body = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}
    try:
        server.until_ready()
        sweep_id = server.client.post("/api/v1/sweeps", json=body).json()["id"]
        server.until(sweep_id, lambda view: view["progress"]["done"] > 0 or view["state"] == "finished")
        server.kill()
        kept = {name for name in files(server.data_dir, sweep_id) if name.endswith(".safetensors")}
        server.start()
        view = server.until(sweep_id, lambda view: view.get("state") == "finished")  # nobody asked for it to go on
        assert view["n_rows"] == view["manifest"]["corpus"]["rows"]
        assert kept - {name for name in kept if "/." in name} <= files(server.data_dir, sweep_id).keys()
        again = server.client.post("/api/v1/sweeps", json=body).json()["id"]
        server.until(again, lambda view: view["state"] == "finished")
        assert files(server.data_dir, again) == files(server.data_dir, sweep_id)
    finally:
        server.kill()
        server.client.close()
        server.socket.close()
