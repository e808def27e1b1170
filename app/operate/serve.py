"""nullscope serve: the dashboard and the API on one port."""

import contextlib
import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import click

from app.core.shell.session import Refused, make_data_dir

SWITCH_SECONDS = 0.001
"""A thread that computes lets others in after this long: five times sooner than Python's own choice, since the event
loop waits that long for each of them whenever it has something to do."""


@click.command("serve")
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one. [default: 8000]")
@click.option("--model", "models", multiple=True, metavar="KEY_OR_FOLDER", help="Repeatable. [default: demo]")
@click.option("--counts", multiple=True, metavar="[KEY=]FILE.npy", help="Token counts of a model; repeatable.")
@click.option("--reference", multiple=True, metavar="KEY=FILE", help="Text of a model's reference means; repeatable.")
@click.option("--device", help="auto, cpu, cuda, mps, or several: cuda:0,cuda:1. [default: auto]")
@click.option("--engine", type=click.Choice(["local", "ray"]), help="ray: the models in workers of a cluster.")
@click.option("--ray-address", help="auto, HOST:6379, ray://HOST:10001, or local. [default: auto]")
@click.option("--ray-workers", type=click.IntRange(1, 64), help="Workers on the cluster. [default: 1]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the weights. [default: float32]")
@click.option("--root-path", help="Path prefix behind a reverse proxy.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder for all that is written.")
@click.option("--auth-file", type=click.Path(path_type=Path, dir_okay=False), help="People's keys: nullscope users.")
@click.option("--insecure-open", is_flag=True, default=None, help="Serve other machines without any login.")
def command(**flags: Any) -> None:
    """Serve the dashboard and the API. Flags win over NULLSCOPE_... variables."""
    from app.core.shell.session import refusing

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    with refusing():
        from analysis.registry import resolve
        from app.core.locks import DataFolder
        from app.core.settings import LOOPBACK, Settings
        from app.operate.logs import configure_logging
        from app.operate.starting import Starting
        from app.operate.stopping import Server

        settings = Settings(**given)
        for name in settings.models:
            resolve(name)  # a name that means nothing is told before anything is listened on
        make_data_dir(settings.data_dir)
        listening = listen(settings.host, settings.port)
        address, port = listening.getsockname()[:2]
        if address not in ("127.0.0.1", "::1"):
            from app.core.access.gate import check_address

            check_address(settings, address)
        elif not settings.allowed_hosts:
            settings = settings.model_copy(update={"allowed_hosts": LOOPBACK})
        folder = DataFolder(settings.data_dir)
        folder.hold("server")
        shown = f"[{address}]" if ":" in address else address
        click.echo(f"Nullscope on http://{shown}:{port}{settings.root_path}  (stop with Ctrl+C)")
        sys.setswitchinterval(SWITCH_SECONDS)

        def build() -> Any:
            from app.main import create_app

            app = create_app(settings, folder=folder)
            app.state.database.open()
            configure_logging(settings.log_format)
            show_settings(settings)
            return app

        def stop() -> None:
            server.should_exit = True

        app = Starting(build, stop, settings.root_path)
        server = Server(server_config(app, settings))
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once everything is closed
            server.run(sockets=[listening])
        folder.release()
        if app.failure is not None:
            raise app.failure
    sys.stdout.flush()
    # A kernel compiler may still run, and the interpreter's own way out aborts over its C++ threads.
    os._exit(0 if server.started else 3)


def server_config(app: Any, settings: Any) -> Any:
    """How uvicorn serves the app.

    Proxies: app.core.access.gate believes the configured ones only. No access log: addresses are the users' business.
    An idle connection is kept for longer than clients do, so that none is closed while a request is on its way.
    """
    import uvicorn

    from app.core.connections import bounded, room
    from app.operate.stopping import GRACE

    connections, backlog = room(settings.max_connections)
    return uvicorn.Config(
        app,
        http=bounded(connections, settings.slow_seconds),
        ws="none",
        backlog=backlog,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )


def show_settings(settings: Any) -> None:
    """What this process runs with, one line in the log; secrets stay hidden. A warning for each misspelt variable."""
    import logging

    from app.core.settings import unknown_variables

    logger = logging.getLogger("app")
    logger.info("settings %s", settings.model_dump_json())
    for sentence in unknown_variables():
        logger.warning(sentence)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before any model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else 8001
            raise Refused(
                f"Port {port} on {host} is taken. Try: nullscope serve --port {other}, or make serve PORT={other}"
            ) from None
        reason = error.strerror or error
        raise Refused(f"{host} port {port} cannot be listened on: {reason}. Choose another --host or --port.") from None
    return found
