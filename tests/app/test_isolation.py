"""Many people, one model: nobody's intervention is ever in another's answer, and nothing of it stays behind."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from app.core.residency.host import ModelHost
from app.core.residency.resident import Resident
from app.core.settings import Settings
from app.main import create_app
from tests import tiny
from tests.app.served import PATIENCE

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(10)
N_REQUESTS = 200

# One in the first layer (a hooked pass), one in the last (closed form): both paths, side by side.
FIRST = {
    "token_ids": IDS,
    "top_k": 2,
    "neurons": ["0.3"],
    "interventions": [{"neuron": "0.3", "mode": "value", "value": 4}],
}
SECOND = {
    "token_ids": IDS,
    "top_k": 2,
    "neurons": ["1.5"],
    "interventions": [{"neuron": "1.5", "mode": "scale", "value": -3}],
}
CLEAN = {"token_ids": IDS, "top_k": 2}


def serving(settings: Settings, talk: Callable[[httpx.AsyncClient, ModelHost], Any]) -> Any:
    """Run `talk` against the app on one event loop, as a server does."""

    async def run() -> Any:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            host: ModelHost = app.state.host
            for entry in host.entries.values():
                await asyncio.to_thread(entry.means_settled.wait)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
                return await talk(client, host)

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until something is so; fails rather than hangs."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


def count_hooks(resident: Resident) -> int:
    """Every hook that a module of the resident model still carries beyond those the bridge itself installs."""
    modules = resident.model._bridge.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)


def test_two_people_two_hundred_requests_each_never_cross(make_settings: Callable[..., Settings]) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        async def ask(body: dict[str, Any]) -> str:
            response = await client.post(f"{URL}/trace", json=body)
            assert response.status_code == 200, response.text
            return response.text

        hooks = await host.run("tiny-gpt2", count_hooks)
        before = await ask(CLEAN)
        expected = {name: await ask(body) for name, body in (("first", FIRST), ("second", SECOND))}
        assert expected["first"] != expected["second"]

        async def person(body: dict[str, Any]) -> set[str]:
            return {await ask(body) for _ in range(N_REQUESTS)}

        first, second = await asyncio.gather(person(FIRST), person(SECOND))
        assert first == {expected["first"]}
        assert second == {expected["second"]}
        assert await host.run("tiny-gpt2", count_hooks) == hooks
        assert await ask(CLEAN) == before  # to the last bit

    serving(make_settings(), talk)


def test_a_failing_intervention_leaves_no_hook(make_settings: Callable[..., Settings], monkeypatch: Any) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        async def clean() -> str:
            return (await client.post(f"{URL}/trace", json=CLEAN)).text

        hooks, before = await host.run("tiny-gpt2", count_hooks), await clean()
        with monkeypatch.context() as patch:
            patch.setattr("analysis.apply.intervened", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await client.post(f"{URL}/trace", json=FIRST)
        assert await host.run("tiny-gpt2", count_hooks) == hooks
        assert await clean() == before

    serving(make_settings(), talk)


def test_health_answers_while_the_model_works(make_settings: Callable[..., Settings]) -> None:
    """The device is held until every one of them has been answered."""

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        go = threading.Event()
        busy = asyncio.ensure_future(host.run("tiny-gpt2", lambda resident: go.wait(PATIENCE)))
        await until(lambda: host.workers["cpu"].running is not None)
        for _ in range(40):
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            assert (await client.get("/readyz")).status_code == 200
        assert not busy.done()
        go.set()
        assert await busy

    serving(make_settings(), talk)


def test_a_full_queue_is_429_with_a_delay_and_drains(make_settings: Callable[..., Settings]) -> None:
    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        go = threading.Event()
        busy = asyncio.ensure_future(host.run("tiny-gpt2", lambda resident: go.wait(600)))
        await until(lambda: host.workers["cpu"].running is not None)
        bodies = [{"token_ids": [5, 6 + n]} for n in range(3)]  # different: equal ones would be computed once
        asked = [asyncio.ensure_future(client.post(f"{URL}/trace", json=body)) for body in bodies]
        await until(lambda: host.workers["cpu"].depth >= 4)
        refused = await client.post(f"{URL}/trace", json=CLEAN)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert (await client.get("/healthz")).status_code == 200
        go.set()
        assert [(await one).status_code for one in asked] == [200] * 3
        await busy

    serving(make_settings(queue_size=3), talk)


def test_a_client_that_leaves_is_dropped_from_the_queue(make_settings: Callable[..., Settings]) -> None:
    """Straight ASGI, because a client library cannot leave half-way."""

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        app = client._transport.app  # type: ignore[attr-defined]
        go, left = threading.Event(), asyncio.Event()
        busy = asyncio.ensure_future(host.run("tiny-gpt2", lambda resident: go.wait(600)))
        await until(lambda: host.workers["cpu"].running is not None)
        body = iter([b'{"token_ids": [5, 6]}'])
        sent = []

        async def receive() -> dict[str, Any]:
            for part in body:
                return {"type": "http.request", "body": part, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"host", b"test")]
        scope = {
            "type": "http", "method": "POST", "path": f"{URL}/trace", "query_string": b"", "headers": headers,
            "raw_path": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("test", 80),
        }  # fmt: skip
        request = asyncio.ensure_future(app(scope, receive, send))
        await until(lambda: host.workers["cpu"].depth >= 2)
        left.set()
        await request
        assert sent[0]["status"] == 499
        assert host.workers["cpu"].depth == 1  # only the one that runs
        go.set()
        await busy
        assert ("trace", "ok") not in host.workers["cpu"].stats.finished

    serving(make_settings(), talk)


def test_out_of_memory_is_503_and_the_next_request_works(
    make_client: Callable[..., TestClient], monkeypatch: Any
) -> None:
    import torch

    client = make_client()
    with monkeypatch.context() as patch:

        def explode(*args: Any, **more: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        patch.setattr("analysis.trace.trace", explode)
        answer = client.post(f"{URL}/trace", json=CLEAN)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "out_of_memory"
    assert int(answer.headers["retry-after"]) >= 1
    assert client.post(f"{URL}/trace", json=CLEAN).status_code == 200


def test_ready_and_first_answers_before_the_model_is_loaded(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis import model as models

    go, load = threading.Event(), models.load
    settings = make_settings()
    host = ModelHost(settings, loader=lambda *args, **more: (go.wait(600), load(*args, **more))[1])
    with TestClient(create_app(settings, host=host)) as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["waiting_for"] == ["tiny-gpt2"]
        row = client.get("/api/v1/models").json()["models"][0]
        assert (row["loaded"], row["weights_sha256"]) == (False, None)
        asked = client.post(f"{URL}/trace", json=CLEAN)
        assert asked.status_code == 503
        assert "retry-after" in asked.headers
        go.set()
        host.entry("tiny-gpt2").settled.wait()
        assert client.get("/readyz").status_code == 200


def test_the_mean_is_409_until_it_is_there(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis import reference

    go, compute = threading.Event(), reference.compute

    def held(*args: Any, **more: Any) -> Any:
        steps = compute(*args, **more)
        yield next(steps)
        assert go.wait(600)
        yield from steps

    monkeypatch.setattr("analysis.reference.compute", held)
    client = make_client(wait=False, device="cpu,cpu:0")  # a second device answers while the first is held
    host: ModelHost = client.app.state.host  # type: ignore[attr-defined]
    entry = host.entry("tiny-gpt2")
    entry.settled.wait()
    refused = client.post(f"{URL}/effects", json={"token_ids": IDS})
    assert refused.status_code == 409
    assert "prompt_mean" in refused.json()["error"]["hint"]
    assert client.post(f"{URL}/effects", json={"token_ids": IDS, "baseline": "zero"}).status_code == 200
    go.set()
    entry.means_settled.wait()
    assert client.post(f"{URL}/effects", json={"token_ids": IDS}).status_code == 200
