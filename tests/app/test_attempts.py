"""Guesses at keys: limited before any work is done for them."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from app.core import offloop
from app.core.access import attempts
from app.core.access.attempts import Attempts
from app.core.access.gate import Gate
from app.core.access.keys import KeyFile
from app.core.access.roles import Doors
from app.core.errors import BusyError, UnauthorizedError
from app.core.settings import Settings
from app.core.store import Database
from app.main import create_app
from tests.app.conftest import bearer, still

URL = "/api/v1/models"
PERSON = {"name": "x", "role": "run", "id": "1", "salt": "00", "hash": "00", "created": 1.0}


def test_wrong_keys_are_limited(make_door: Callable[..., TestClient], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "users.json")
    key = keys.add("ada", "run")
    client = make_door(auth_file=keys.path, login_failures=3)
    codes = [client.get(URL, headers=bearer(f"ns_0_{i}")).status_code for i in range(4)]
    assert codes == [401, 401, 401, 429]
    refused = client.get(URL, headers=bearer(key))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


def test_wrong_keys_hold_nobody_up_whose_key_was_right(make_door: Callable[..., TestClient], tmp_path: Path) -> None:
    """People behind one address are not locked out by what one of them tries."""
    keys = KeyFile(tmp_path / "users.json")
    key = keys.add("ada", "run")
    client = make_door(auth_file=keys.path, login_failures=1)
    assert client.get(URL, headers=bearer(key)).status_code == 200
    assert [client.get(URL, headers=bearer(f"ns_0_{i}")).status_code for i in range(2)] == [401, 429]
    assert client.get(URL, headers=bearer(key)).status_code == 200
    keys.revoke("ada")
    assert client.get(URL, headers=bearer(key)).status_code == 429


class Hashes:
    """Stands in for the slow hash: counts, and lets the test decide when one is done."""

    def __init__(self) -> None:
        self.done = self.most = self._now = 0
        self._lock = threading.Lock()
        self.go = threading.Event()

    def __call__(self, secret: str, salt: str) -> str:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.go.wait(600)
        with self._lock:
            self._now -= 1
            self.done += 1
        return "00"


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Hashes:
    found = Hashes()
    monkeypatch.setattr("app.core.access.keys.slow_hash", found)
    return found


def test_of_many_wrong_keys_at_once_few_are_hashed(
    make_settings: Callable[..., Settings], tmp_path: Path, hashes: Hashes
) -> None:
    """The limit is taken before the work: 250 guesses that arrive together are no more than ten that fail."""
    (tmp_path / "users.json").write_text(json.dumps({"people": [PERSON]}))
    app = create_app(make_settings(auth_file=tmp_path / "users.json", login_failures=10), clock=still)

    async def ask(client: httpx.AsyncClient, number: int) -> int:
        headers = bearer(f"ns_0_{number}")
        answer = await client.get(URL, headers=headers) if number % 2 else await client.post(
            "/login", data={"key": f"ns_0_{number}"}
        )  # fmt: skip
        return answer.status_code

    async def together() -> list[int]:
        hashes.go.set()
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(ask(client, number) for number in range(250)))

    codes = asyncio.run(together())
    assert (codes.count(401), codes.count(429)) == (10, 240)
    assert hashes.done == 10
    assert hashes.most <= offloop.check.size


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_guesses_from_everywhere_share_a_small_pool(hashes: Hashes, tmp_path: Path) -> None:
    guesses = Attempts(10, still)

    async def together() -> list[object]:
        def work(key: str) -> None:
            hashes("", "")

        asked = [
            asyncio.ensure_future(guesses.one(f"k{i}", f"10.0.{i // 200}.{i % 200}", work))
            for i in range(attempts.MOST_WAITING + 40)
        ]
        await _until(lambda: sum(task.done() for task in asked) == 40)  # refused without any work
        hashes.go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(together())
    refused = [error for error in found if isinstance(error, BusyError)]
    assert [error.code for error in refused] == ["login_busy"] * 40
    assert hashes.done == attempts.MOST_WAITING
    assert hashes.most <= offloop.check.size


def test_one_key_sent_many_times_at_once_is_hashed_once(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that start together with one right key are not taken for somebody who guesses."""
    keys = KeyFile(tmp_path / "users.json")
    key = keys.add("ada", "run")
    settings = make_settings(auth_file=keys.path, login_failures=3)
    gate = Gate(settings, Database.of(settings), Doors(()), clock=still)
    real, calls = gate.keys.check, itertools.count()
    monkeypatch.setattr(gate.keys, "check", lambda key: (next(calls), real(key))[1])

    async def together() -> list[str]:
        return [each.name for each in await asyncio.gather(*(gate.by_key(key, "10.0.0.1") for _ in range(40)))]

    assert asyncio.run(together()) == ["ada"] * 40
    assert next(calls) == 1

    async def after() -> None:
        for number in range(3):  # none of the 40 has counted
            with pytest.raises(UnauthorizedError):
                await gate.by_key(f"ns_0_{number}", "10.0.0.1")
        with pytest.raises(BusyError):
            await gate.by_key("ns_0_4", "10.0.0.1")

    asyncio.run(after())


def test_a_site_with_many_ipv6_addresses_is_one_that_guesses(tmp_path: Path) -> None:
    guesses = Attempts(2, still)

    async def one(address: str) -> None:
        await guesses.one(address, address, lambda key: None)

    asyncio.run(one("2001:db8::1"))
    asyncio.run(one("2001:db8::2"))
    with pytest.raises(BusyError):
        asyncio.run(one("2001:db8::ffff:3"))
    asyncio.run(one("2001:db8:0:1::1"))  # another network
    asyncio.run(one("192.0.2.1"))
