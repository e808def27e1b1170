"""The real program on a port that the system picks; the number is written into the file named on the command line."""

import socket
import sys
from pathlib import Path

import uvicorn

from app.core.settings import Settings
from app.main import create_app

if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Settings(models=("demo",), device="cpu"))
    Path(sys.argv[1]).write_text(str(listening.getsockname()[1]))
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])
