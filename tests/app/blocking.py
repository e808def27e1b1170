"""What blocks while the event loop's thread runs it: files, the database, hashes, imports, waiting, long drawing.

with blocking.watched() as seen: client.get("/atlas")
assert seen == []
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import json
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, event

ROOT = Path(__file__).parents[2]

LARGE = 50_000
"""Characters of JSON that take the loop some milliseconds to write; less is a matter of course."""

AUDITED = (
    *(
        "open",
        "import",
        "os.listdir",
        "os.scandir",
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "glob.",
        "shutil.",
    ),
    *("tempfile.", "sqlite3.", "subprocess.", "os.system", "time.sleep", "socket.getaddrinfo", "fcntl."),
)
_seen: list[str] | None = None
_stuck: Callable[[str, tuple[Any, ...]], None] | None = None


def on_loop() -> bool:
    """Whether this is the thread of a running event loop."""
    return asyncio._get_running_loop() is not None


def _record(what: str) -> None:
    if _seen is None or not on_loop():
        return
    frame, ours = sys._getframe(1), []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "tests"):
            ours.append(f"{file.name}:{frame.f_lineno}")
        frame = frame.f_back
    _seen.append(f"{what} in {' < '.join(ours[:4])}")


def _audit(name: str, arguments: tuple[Any, ...]) -> None:
    if _stuck is not None:
        _stuck(name, arguments)
    if _seen is not None and name.startswith(AUDITED) and on_loop():
        _record(f"{name} {arguments[:1]}")


sys.addaudithook(_audit)  # for good, so it asks first whether anybody watches


@contextmanager
def watched() -> Iterator[list[str]]:
    """Everything that blocked the loop inside the block: what, and where in our code."""
    global _seen
    _seen = found = []
    listeners: dict[str, Callable[..., None]] = {
        "before_cursor_execute": lambda *given: _record(f"SQL {given[2][:60]}"),
        "commit": lambda _: _record("COMMIT"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((os, "stat"), (hashlib, "scrypt"), (zlib, "compress"), (zlib, "decompress")):
            _before(patch, owner, name)
        for owner, name in ((jinja2.Template, "render"), (jinja2.Template, "new_context"), (threading.Thread, "join")):
            _before(patch, owner, name)
        _before(patch, threading.Condition, "wait", unless=_at_once)
        _before(patch, concurrent.futures.Future, "result", unless=lambda future, *_, **__: future.done())
        for owner, name in ((BaseModel, "model_dump_json"), (json, "dumps")):
            _when_large(patch, owner, name)
        for name, listener in listeners.items():
            event.listen(Engine, name, listener)
        try:
            yield found
        finally:
            _seen = None
            for name, listener in listeners.items():
                event.remove(Engine, name, listener)


def _before(
    patch: pytest.MonkeyPatch, owner: Any, name: str, unless: Callable[..., bool] = lambda *_, **__: False
) -> None:
    real = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        if not unless(*args, **options):
            _record(name)
        return real(*args, **options)

    patch.setattr(owner, name, call)


def _when_large(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        made = real(*args, **options)
        if len(made) > LARGE:
            _record(f"{name} of {len(made)}")
        return made

    patch.setattr(owner, name, call)


def _at_once(_: object, timeout: float | None = None) -> bool:
    """A pool asks whether a thread of its is free, and waits for a new one until it has begun."""
    frame = sys._getframe(2)
    callers = {frame.f_code.co_name, frame.f_back.f_code.co_name if frame.f_back else ""}
    return (timeout is not None and timeout <= 0) or "start" in callers


@contextmanager
def hung(folder: Path) -> Iterator[threading.Event]:
    """Every statement for a database, and every file opened below `folder`, waits until the event is set.

    On the event loop's thread they fail instead, so that the one who is to blame is found.
    """
    global _stuck
    free = threading.Event()

    def wait(what: str) -> None:
        if on_loop():
            raise AssertionError(f"{what} on the event loop")
        free.wait()

    def statement(*given: Any) -> None:
        wait(str(given[2]))

    def file(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(str(folder)):
            wait(f"{name} {arguments[0]}")

    event.listen(Engine, "before_cursor_execute", statement)
    _stuck = file
    try:
        yield free
    finally:
        free.set()
        _stuck = None
        event.remove(Engine, "before_cursor_execute", statement)
