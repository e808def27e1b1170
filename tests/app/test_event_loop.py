"""Nothing that can block runs on the event loop: neither database nor disk, neither hashes nor drawing."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.core import offloop
from app.core.answering import OffLoop
from app.core.settings import Settings
from app.core.store import Database
from app.main import create_app
from tests.app import blocking, every_route

HANGS = 300.0
"""Seconds after which something is taken to hang."""


def test_no_route_blocks_the_loop(make_client: Callable[..., TestClient]) -> None:
    client = make_client(rate_per_minute=1e9)
    names = every_route.prepared(client)
    asked: set[tuple[str, str]] = set()
    found: set[str] = set()
    for call in every_route.every():
        with blocking.watched() as seen:
            answer = call.ask(client, names)
        assert answer.status_code in call.expected, (call, answer.text[:300])
        asked.add((call.method, call.template))
        found |= {f"{call.method} {call.template}: {line}" for line in seen}
    assert every_route.served(client) - asked == set(), "add a call of the new route to tests/app/every_route.py"
    assert sorted(found) == []


def blocks(folder: Path, pool: ThreadPoolExecutor) -> dict[str, Callable[[], Any]]:
    """Each kind of blocking that is watched for, by how its line begins."""
    (folder / "x").write_text("x")
    database = Database(f"sqlite:///{folder}/x.sqlite")
    return {
        "open": (folder / "x").read_text,
        "os.listdir": lambda: list(folder.iterdir()),
        "stat": (folder / "x").exists,
        "scrypt": lambda: hashlib.scrypt(b"x", salt=b"x", n=2, r=1, p=1),
        "SQL": database.version,
        "result": lambda: pool.submit(threading.Event().wait, 0.01).result(),
        "import": lambda: __import__("this_is_no_module"),
    }


def test_what_is_watched_for_is_seen_on_the_loop_and_only_there(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        for name, block in blocks(tmp_path, pool).items():

            def work(block: Callable[[], Any] = block) -> None:
                with suppress(ImportError):
                    block()

            async def on_the_loop(work: Callable[[], None] = work) -> None:
                work()

            async def in_a_thread(work: Callable[[], None] = work) -> None:
                await offloop.read(work)

            with blocking.watched() as seen:
                asyncio.run(in_a_thread())
            assert seen == [], name
            with blocking.watched() as seen:
                asyncio.run(on_the_loop())
            assert any(line.startswith(name) for line in seen), (name, seen)


def test_every_route_writes_its_answer_off_the_loop(client: TestClient) -> None:
    routes = [route for route in every_route.routes(client) if isinstance(route, APIRoute)]
    assert [route.path for route in routes if not isinstance(route, OffLoop)] == []
    assert len(routes) > 80


def test_a_database_and_a_disk_that_hang_stop_neither_health_nor_answers(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty requests of each kind wait for files and database; what needs neither is answered meanwhile."""
    monkeypatch.setattr("app.core.store.keeping.PATIENCE", 0.0)  # no answer waits for its permalink
    settings = make_settings(rate_per_minute=1e9, queue_per_person=200, queue_size=200)
    texts = ["The cat", "The dog"]

    async def talk() -> None:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as client,
        ):
            entry = await asyncio.to_thread(app.state.host.wait, every_route.MODEL)
            await asyncio.to_thread(entry.means_settled.wait)
            assert (await client.get(f"{every_route.M}/neurons")).status_code == 200
            with blocking.hung(settings.data_dir) as free:
                note = {"target": "neuron:m/1.1", "text": "x"}
                waiting = [asyncio.ensure_future(client.post("/api/v1/notes", json=note)) for _ in range(40)]
                for path in ("/lab", "/atlas", "/sweeps", "/jobs", f"{every_route.M}/neurons", "/api/v1/results"):
                    waiting += [asyncio.ensure_future(client.get(path)) for _ in range(40)]
                for _ in range(20):  # every one of them is under way
                    await asyncio.sleep(0)
                for _ in range(3):
                    assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/login")).status_code == 200
                for text in texts:
                    answer = await client.post(f"{every_route.M}/trace?store=true", json={"text": text})
                    assert (answer.status_code, answer.json()["permalink"]) == (200, None)
                assert not any(request.done() for request in waiting)
                free.set()
                answers = await asyncio.gather(*waiting)
            assert {answer.status_code for answer in answers} == {200, 201}

    asyncio.run(asyncio.wait_for(talk(), HANGS))
