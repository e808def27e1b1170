"""Heat maps of pages: in the queue and within the bounds of a person's work, ended when nobody asks for them."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from app.core import followed
from app.core.access.keys import KeyFile
from app.core.followed import KEPT, FollowedRuns
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from tests.app.test_isolation import serving, until

FRAGMENT = {"HX-Request": "true", "HX-Target": "div#effects"}
PROGRESS = {"HX-Request": "true", "HX-Target": "section#heatmap"}


@contextmanager
def held(host: ModelHost) -> Iterator[None]:
    """The device does nothing else inside the block."""
    go = threading.Event()
    busy = host.submit("tiny-gpt2", lambda resident: go.wait(600))
    try:
        yield
    finally:
        go.set()
        busy.result()


@pytest.fixture
def people(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Headers of each."""
    keys = KeyFile(tmp_path / "users.json")
    return {name: {"authorization": f"Bearer {keys.add(name, 'run')}"} for name in ("ada", "ben")}


@pytest.fixture
def settings(make_settings: Callable[..., Settings], people: dict[str, dict[str, str]], tmp_path: Path) -> Settings:
    return make_settings(auth_file=tmp_path / "users.json", queue_per_person=3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer waits neither for the heat map nor, the device being held, for the strip of its tokens."""
    monkeypatch.setattr("app.effects.routes.FIRST_WAIT", 0.0)
    monkeypatch.setattr("app.effects.routes.STRIP_WAIT", 0.0)


async def start(client: httpx.AsyncClient, person: dict[str, str], text: str) -> str:
    """Where the page that was opened asks for its heat map."""
    answer = await client.post("/effects", data={"text": text}, headers={**FRAGMENT, **person})
    assert answer.status_code == 200, answer.text
    found = re.search(r'hx-get="(/effects/heatmap/\w+)"', answer.text)
    assert found is not None, answer.text
    return found[1]


async def finished(client: httpx.AsyncClient, person: dict[str, str], url: str) -> str:
    """The last fragment."""
    while True:
        answer = await client.get(url, headers={**PROGRESS, **person})
        assert answer.status_code == 200, answer.text
        if "/effects/heatmap/" not in answer.text:
            return answer.text


def runs_of(client: httpx.AsyncClient) -> FollowedRuns:
    found: FollowedRuns = client._transport.app.state.followed  # type: ignore[attr-defined]
    return found


def test_one_pushes_out_only_ones_own(settings: Settings, people: dict[str, dict[str, str]]) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        with held(host):
            his = await start(client, people["ben"], "his")
            hers = [await start(client, people["ada"], f"hers {n}") for n in range(70)]
            assert "heatmap" not in {thread.name for thread in threading.enumerate()}
            found = [await client.get(url, headers={**PROGRESS, **people["ada"]}) for url in hers]
            assert [answer.status_code for answer in found] == [404] * 67 + [200] * 3
            assert (await client.get(his, headers={**PROGRESS, **people["ada"]})).status_code == 404  # not hers to see
        assert 'data-chart="heatmap"' in await finished(client, people["ben"], his)
        for url in hers[-3:]:
            assert 'data-chart="heatmap"' in await finished(client, people["ada"], url)

    serving(settings, talk)


def test_past_ones_share_it_is_429_for_that_one_alone(settings: Settings, people: dict[str, dict[str, str]]) -> None:
    """Three requests that wait for their heat maps are all that this person may have; another is not held up."""

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        async def whole(name: str, text: str) -> httpx.Response:
            return await client.post("/effects?format=csv", data={"text": text}, headers=people[name])

        with held(host):
            waiting = [asyncio.ensure_future(whole("ada", f"hers {n}")) for n in range(3)]
            await until(lambda: host.places.are_taken_by("ada"))
            refused = await client.post("/effects", data={"text": "one more"}, headers={**FRAGMENT, **people["ada"]})
            assert refused.status_code == 429
            assert "queue_full" in refused.text
            his = await start(client, people["ben"], "his")
        assert [(await answer).status_code for answer in waiting] == [200] * 3
        assert 'data-chart="heatmap"' in await finished(client, people["ben"], his)

    serving(settings, talk)


def test_what_nobody_asks_for_ends_and_its_place_is_free(
    settings: Settings, people: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "LEASE", 0.0)

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        with held(host):
            url = await start(client, people["ada"], "left")
            await until(lambda: host.workers["cpu"].depth == 1)  # what holds the device
            assert not host.places._taken
            gone = await client.get(url, headers={**PROGRESS, **people["ada"]})
            assert gone.status_code == 404
            assert "Run it again" in gone.text or "ended" in gone.text

    serving(settings, talk)


def test_a_client_that_leaves_frees_its_place(settings: Settings, people: dict[str, dict[str, str]]) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        with held(host):
            left = asyncio.Event()
            asked = asyncio.ensure_future(leaving(client, people["ada"], left))
            await until(lambda: host.places._taken["ada"] == 1 and host.workers["cpu"].depth == 2)
            left.set()
            await asked
            await until(lambda: host.workers["cpu"].depth == 1)
            assert not host.places._taken

    serving(settings, talk)


async def leaving(client: httpx.AsyncClient, person: dict[str, str], left: asyncio.Event) -> None:
    """Ask for a heat map as CSV, and leave when told to. Straight ASGI: a client library cannot leave half-way."""
    body = iter([urlencode({"text": "left"}).encode()])

    async def receive() -> dict[str, Any]:
        for part in body:
            return {"type": "http.request", "body": part, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    headers = {"content-type": "application/x-www-form-urlencoded", "host": "test", **person}
    scope = {
        "type": "http", "method": "POST", "path": "/effects", "query_string": b"format=csv",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "raw_path": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
        "client": ("127.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip
    await client._transport.app(scope, receive, send)  # type: ignore[attr-defined]


def test_a_finished_one_is_shown_again_at_the_price_of_a_page_and_only_so_many_are_kept(
    settings: Settings, people: dict[str, dict[str, str]]
) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        passes = 0
        for n in range(KEPT + 2):
            await finished(client, people["ada"], await start(client, people["ada"], f"text {n}"))
        assert len(runs_of(client)._of["ada"]) == KEPT
        passes = host.workers["cpu"].stats.finished["heatmap_views", "ok"]
        again = await client.post("/effects", data={"text": f"text {KEPT + 1}"}, headers={**FRAGMENT, **people["ada"]})
        assert "Share</button>" in again.text
        assert "/effects/heatmap/" not in again.text
        assert host.workers["cpu"].stats.finished["heatmap_views", "ok"] == passes

    serving(settings, talk)
