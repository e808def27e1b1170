"""A long answer read as it comes by a command, from a server or from the app in this process: a JSON view a line."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import click

ACCEPT = {"accept": "application/x-ndjson", "content-type": "application/json"}
Refuse = Callable[[int, bytes], click.ClickException]
"""What is raised for the status and the body of a refusal."""


def views(lines: Iterator[str], refuse: Refuse) -> Iterator[dict[str, Any]]:
    """The views; what went wrong on the way is the last line."""
    for line in lines:
        view = json.loads(line)
        if "error" in view:
            raise refuse(500, line.encode())
        yield view


def remote(client: Any, path: str, body: Any, refuse: Refuse) -> Iterator[str]:
    """client: an httpx one. Leaving the iteration ends the work."""
    with client.stream("POST", path, json=body, headers=ACCEPT) as response:
        if response.status_code >= 400:
            raise refuse(response.status_code, response.read())
        yield from response.iter_lines()


def inside(app: Any, runner: asyncio.Runner, path: str, body: Any, refuse: Refuse) -> Iterator[str]:
    """The same of an app in this process: httpx would hand over its answer whole."""
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    left = asyncio.Event()
    sent = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in sent:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def answer() -> None:
        try:
            await app(_scope(path), receive, messages.put)
        finally:
            await messages.put({"type": "http.response.body"})  # also of an app that failed without a word

    async def begin() -> asyncio.Task[None]:
        return asyncio.ensure_future(answer())

    async def end() -> None:
        left.set()
        await asyncio.gather(task, return_exceptions=True)

    task = runner.run(begin())
    try:
        status, rest = 0, b""
        while True:
            message = runner.run(messages.get())
            status = message.get("status", status)
            *whole, rest = (rest + message.get("body", b"")).split(b"\n")
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            if 0 < status < 400:
                yield from (line.decode() for line in whole)
            elif ended:
                raise refuse(status or 500, b"\n".join([*whole, rest]))
            if ended:
                return
    finally:
        runner.run(end())


def _scope(path: str) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in {**ACCEPT, "host": "in-process"}.items()]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "POST",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 0), "server": ("in-process", 80),
    }  # fmt: skip
