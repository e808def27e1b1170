"""Connections of a real server: how many, how slow, and how they end."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import Settings
from app.main import create_app
from app.operate.logs import EVERY, Sparing
from tests.app import served

MOST = 8
QUICK = 0.3
"""Seconds in which a head must be there, where a test waits for that."""


class Held:
    """An app that answers `/held` when it is let go, and everything else at once."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.came = threading.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"] == "/held":
            self.came.release()
            await asyncio.to_thread(self.free.wait)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def held() -> Iterator[tuple[Held, int]]:
    app = Held()
    with served.served(app, Settings(max_connections=MOST)) as port:
        yield app, port
        app.free.set()


def get(port: int, path: str = "/", connection: http.client.HTTPConnection | None = None) -> tuple[int, bytes]:
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=served.PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_sockets_that_say_nothing_make_room(held: tuple[Held, int]) -> None:
    _, port = held
    with served.silent(port, 5 * MOST) as sockets:
        for _ in range(2 * MOST):
            assert get(port) == (200, b"ok")
        assert served.everything(sockets[0]) == b""  # the oldest were closed, without a word


def test_one_that_works_is_not_closed_for_one_that_is_idle(held: tuple[Held, int]) -> None:
    """Idle connections that have been of use go last."""
    app, port = held
    busy = http.client.HTTPConnection("127.0.0.1", port, timeout=served.PATIENCE)
    busy.request("GET", "/held")
    app.came.acquire()
    used = http.client.HTTPConnection("127.0.0.1", port, timeout=served.PATIENCE)
    assert get(port, connection=used) == (200, b"ok")
    with served.silent(port, 4 * MOST):
        assert get(port) == (200, b"ok")
        assert get(port, connection=used) == (200, b"ok")
        app.free.set()
        assert busy.getresponse().read() == b"ok"


def test_where_all_are_busy_the_next_is_told_so(held: tuple[Held, int]) -> None:
    app, port = held
    busy = [http.client.HTTPConnection("127.0.0.1", port, timeout=served.PATIENCE) for _ in range(MOST)]
    for connection in busy:
        connection.request("GET", "/held")
        app.came.acquire()
    with pytest.raises(urllib.error.HTTPError) as refused:  # a client that asks before it looks
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"x" * 100_000, timeout=served.PATIENCE)
    assert refused.value.code == 503
    assert refused.value.headers["Retry-After"]
    assert json.loads(refused.value.read())["error"]["code"] == "busy"
    app.free.set()
    assert [connection.getresponse().read() for connection in busy] == [b"ok"] * MOST
    assert get(port) == (200, b"ok")


@pytest.fixture
def quick() -> Iterator[int]:
    app = Held()
    with served.served(app, Settings(slow_seconds=QUICK)) as port:
        yield port


def test_a_head_that_comes_too_slowly_is_told_so(quick: int) -> None:
    with served.connected(quick) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # and no end
        answer = served.everything(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_slow"
    with served.connected(quick) as connection:
        assert served.everything(connection) == b""  # one that is silent


def test_the_second_head_on_a_connection_is_held_to_it_too(quick: int) -> None:
    with served.connected(quick) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while not received.endswith(b"ok"):
            received += connection.recv(1000)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert b" 408 " in served.everything(connection)


@pytest.fixture
def program(make_settings: Callable[..., Settings]) -> Iterator[int]:
    """The program itself with small bounds on a body."""
    settings = make_settings(max_body_bytes=100_000, slow_seconds=QUICK, run_jobs=False)
    with served.served(create_app(settings), settings) as port:
        yield port


TRACE = "/api/v1/models/tiny-gpt2/trace"


@pytest.mark.parametrize("length", [3_000_000, 40_000_000])
@pytest.mark.parametrize("keep", ["close", "keep-alive"])
def test_a_body_that_is_too_large_is_refused_so_that_a_client_reads_it(program: int, length: int, keep: str) -> None:
    """One that sends all of it before it looks, over a connection that ends with the answer or not."""
    connection = http.client.HTTPConnection("127.0.0.1", program, timeout=served.PATIENCE)
    headers = {"content-type": "application/json", "connection": keep}
    connection.request("POST", TRACE, body=b"x" * length, headers=headers)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "body_too_large")
    if keep == "keep-alive":  # nothing of it was left behind
        assert get(program, "/healthz", connection)[0] == 200


def test_a_body_of_unknown_length_is_refused_likewise(program: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", program, timeout=served.PATIENCE)
    pieces = (b"x" * 50_000 for _ in range(40))
    headers = {"content-type": "application/json", "connection": "close"}
    connection.request("POST", TRACE, body=pieces, headers=headers, encode_chunked=True)
    assert connection.getresponse().status == 413


def test_beyond_the_bound_the_connection_ends_with_the_answer(program: int) -> None:
    """Of a body without end nothing is read on; who looks for the answer finds it."""
    with served.connected(program) as connection:
        connection.sendall(f"POST {TRACE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**12}\r\n\r\n".encode())
        connection.sendall(b"x" * 500_000)
        answer = served.everything(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_who_asks_before_sending_is_not_made_to_send(program: int) -> None:
    with served.connected(program) as connection:
        head = f"POST {TRACE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert served.everything(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_comes_too_slowly_is_told_so(program: int) -> None:
    with served.connected(program) as connection:
        kind = "Content-Type: application/json"
        connection.sendall(
            f"POST {TRACE} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: 50\r\n\r\n{{".encode()
        )
        answer = served.everything(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"too_slow" in answer


def test_more_silent_sockets_than_files_take_nothing_down(tmp_path: Path, model_folder: Path) -> None:
    """400 of them against a process that may open 256 files."""
    server = served.Process(tmp_path, model_folder, files=256)
    try:
        assert get(server.port, "/api/v1/openapi.json")[0] == 200
        assert "Warning" not in server.log  # of pydantic, at the first request for each route
        with served.silent(server.port, 400):
            for _ in range(20):
                assert get(server.port, "/healthz")[0] == 200
        assert get(server.port, "/healthz")[0] == 200
        log = server.log
        assert "Traceback" not in log
        assert "this process may open 256 files" in log
        assert len(log.splitlines()) < 40
    finally:
        server.close()


class Lines:
    """What a handler wrote, with a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.handler = Sparing(self, clock=lambda: self.now)  # type: ignore[arg-type]

    def write(self, text: str) -> None:
        self.lines += text.splitlines()

    def flush(self) -> None:
        pass

    def say(self, message: str, *args: object, error: BaseException | None = None) -> None:
        info = None if error is None else (type(error), error, None)
        self.handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, message, args, info))


def test_what_repeats_is_logged_once_a_minute_with_its_number() -> None:
    log = Lines()
    for number in range(1000):  # as asyncio says that there are no files left
        log.say(f"socket.accept() out of system resource\nsocket: {number}", error=OSError(24, "Too many open files"))
    assert len(log.lines) < 50
    log.lines.clear()
    log.now = EVERY
    log.say("another thing")
    assert log.lines == [
        "990 more lines like this one were left out: socket.accept() out of system resource",
        "another thing",
    ]


def test_different_lines_are_all_written() -> None:
    log = Lines()
    for number in range(5):
        log.say("%d of them", number)
        log.say("unexpected error", error=ValueError(number))
    assert sum(line.endswith("of them") for line in log.lines) == 5
    assert sum(line == "unexpected error" for line in log.lines) == 5
    log.say("%d of them", 3)
    assert sum(line.endswith("of them") for line in log.lines) == 5
    log.now = 2 * EVERY
    log.say("%d of them", 3)
    assert log.lines[-1] == "3 of them"


def test_kinds_without_number_take_a_bounded_memory_and_disk() -> None:
    log = Lines()
    for number in range(5000):
        log.say(f"kind {number}")
    assert len(log.lines) < 1100
