"""Texts as they are written: a reader that vanishes frees the device within one step, and twenty at once are fair."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from analysis.model import Model
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from tests import tiny
from tests.app.test_isolation import URL, serving, until

EVENTS = {"accept": "text/event-stream"}
BODY = {"token_ids": tiny.token_ids(5), "stop_at_eos": False, "temperature": 1.0}


def whole(answer: httpx.Response) -> dict[str, Any]:
    """What the last event tells."""
    return json.loads(answer.text.removesuffix("\n\n").rpartition("\n\n")[2].removeprefix("data: "))


def test_a_reader_that_vanishes_frees_the_device_within_one_step(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, extend = [], Model.extend

    def counted(model: Model, *args: Any, **more: Any) -> Any:
        steps.append(1)
        return extend(model, *args, **more)

    monkeypatch.setattr(Model, "extend", counted)

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        left, events = asyncio.Event(), []
        parts = iter([json.dumps({**BODY, "max_new_tokens": 2048}).encode()])

        async def receive() -> dict[str, Any]:
            for part in parts:
                return {"type": "http.request", "body": part, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                events.append(message["body"])
                if len(events) == 2:
                    left.set()
                    await asyncio.Event().wait()  # it reads no more

        headers = {"content-type": "application/json", "host": "test", **EVENTS}
        scope = {
            "type": "http", "method": "POST", "path": f"{URL}/generate", "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "raw_path": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("test", 80),
        }  # fmt: skip
        await client._transport.app(scope, receive, send)  # type: ignore[attr-defined]
        await until(lambda: host.workers["cpu"].depth == 0 and not host.places._taken)
        assert len(steps) <= 3, "two that it read, and one under way"

    serving(make_settings(), talk)


@pytest.mark.parametrize("path", ["/write", "/", f"{URL}/generate"])
def test_who_leaves_before_all_was_sent_is_no_error_of_this_program(
    make_settings: Callable[..., Settings], path: str
) -> None:
    """A page that is loaded anew while it sends its form: it was a traceback in the log."""

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        parts = iter([{"type": "http.request", "body": b"text=", "more_body": True}])
        told = list[Any]()

        async def receive() -> dict[str, Any]:
            return next(parts, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            told.append(message.get("status"))

        headers = {"content-type": "application/x-www-form-urlencoded", "host": "test"}
        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "raw_path": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("test", 80),
        }  # fmt: skip
        await client._transport.app(scope, receive, send)  # type: ignore[attr-defined]
        assert told[0] in (499, 415, 400)

    serving(make_settings(), talk)


def test_twenty_at_once_say_what_one_says_and_a_short_question_goes_between(
    make_settings: Callable[..., Settings],
) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        alone = (await client.post(f"{URL}/generate", json={**BODY, "max_new_tokens": 12})).json()
        asked = {**BODY, "max_new_tokens": 12}
        streams = [asyncio.ensure_future(client.post(f"{URL}/generate", json=asked, headers=EVENTS)) for _ in range(20)]
        await until(lambda: host.workers["cpu"].depth > 1)
        short = await client.post(f"{URL}/trace", json={"token_ids": [5, 6]})
        assert short.status_code == 200
        assert not any(stream.done() for stream in streams), "it waited for a step, not for a text"
        for stream in streams:
            assert whole(await stream)["tokens"] == alone["tokens"]

    serving(make_settings(), talk)
