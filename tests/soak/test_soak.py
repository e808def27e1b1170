"""Ten people at once, a sweep beside them: no 5xx, no wrong answer, nobody's answer at another's, memory flat.

The default run asks a fixed number of times, so that a slow machine only takes longer. `NULLSCOPE_SOAK_SECONDS=600
pytest tests/soak -s` is the ten minutes of the acceptance, which also compares the memory of the first and last minute.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import httpx

from app.core.access.keys import KeyFile
from app.core.residency.memory import process_bytes
from app.core.settings import Settings
from app.main import create_app
from tests import tiny
from tests.app.conftest import model_folder

SECONDS = float(os.environ.get("NULLSCOPE_SOAK_SECONDS", "0"))
TIMES = 8  # how often each person asks in the default run
PATIENCE = 600.0  # seconds after which something is taken to hang
URL = "/api/v1/models/tiny-gpt2"
PAGES = ("/lab", "/models", "/jobs", "/sweeps", "/selfcheck", "/api/v1/results", "/api/v1/queue", "/metrics")
SWEEP = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}
__all__ = ["model_folder"]


def questions() -> list[tuple[str, dict[str, Any]]]:
    made: list[tuple[str, dict[str, Any]]] = []
    for seed in range(6):
        ids = tiny.token_ids(8 + seed, seed=seed)
        zero = [{"neuron": f"1.{seed}", "mode": "zero"}]
        made.append(("trace", {"token_ids": ids, "top_k": 2, "interventions": zero}))
        made.append(("effects", {"token_ids": ids, "limit": 5, "baseline": "zero"}))
        made.append(("heatmap", {"token_ids": ids, "limit": 5, "baseline": "zero"}))
    return made


QUESTIONS = questions()


def numbers(answer: dict[str, Any]) -> Any:
    return [*(answer.get(name) for name in ("clean", "intervened", "rows")), answer["provenance"]["token_ids"]]


@dataclass
class Soak:
    """What the people share: the answers they must get, and when it ends."""

    client: httpx.AsyncClient
    expected: list[Any]
    end: float
    waits: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)  # (seconds since the start, bytes)

    def goes_on(self, asked: int) -> bool:
        return time.monotonic() < self.end if SECONDS else asked < TIMES

    async def person(self, key: str, seed: int) -> int:
        """Ask at random; how many questions were answered."""
        chance, answered, asked = random.Random(seed), 0, 0
        headers = {"authorization": f"Bearer {key}"}
        while self.goes_on(asked) or not answered:
            asked += 1
            if chance.random() < 0.1:
                page = await self.client.post("/", data={"text": "The cat sat"}, headers=headers)
                assert page.status_code == 200, page.text
                continue
            if chance.random() < 0.2:
                page = await self.client.get(chance.choice(PAGES), headers=headers)
                assert page.status_code == 200, page.text
                continue
            which = chance.randrange(len(QUESTIONS))
            kind, body = QUESTIONS[which]
            started = time.monotonic()
            answer = await self.client.post(f"{URL}/{kind}", json=body, headers=headers)
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) > 0
                continue
            assert answer.status_code == 200, answer.text
            self.waits.append(time.monotonic() - started)
            assert numbers(answer.json()) == self.expected[which]
            answered += 1
        return answered

    async def sweeps(self, key: str) -> int:
        """One sweep after the other beside the people; how many finished. The last one is waited for."""
        headers, finished = {"authorization": f"Bearer {key}"}, 0
        while True:
            started = await self.client.post("/api/v1/sweeps", json=SWEEP, headers=headers)
            assert started.status_code == 202, started.text
            state, name = "queued", started.json()["id"]
            while state in ("queued", "running"):
                await asyncio.sleep(0.02)  # asking is all that one can do
                state = (await self.client.get(f"/api/v1/jobs/{name}", headers=headers)).json()["state"]
            assert state == "finished"
            finished += 1
            gone = await self.client.delete(f"/api/v1/sweeps/{name}", headers=headers)
            assert gone.status_code == 204, gone.text
            if not SECONDS or time.monotonic() > self.end:
                return finished

    async def watch(self) -> None:
        """Memory twice a second, until it is cancelled; a long run first warms up (pools of threads, of memory)."""
        await asyncio.sleep(min(30.0, SECONDS / 4))
        began = time.monotonic()
        while True:
            self.memory.append((time.monotonic() - began, process_bytes()))
            await asyncio.sleep(0.5)

    def growth(self) -> int:
        """Bytes between the mean of the first and of the last minute (or tenth, where it is shorter)."""
        last = self.memory[-1][0]
        window = min(60.0, last / 10)
        first = [n for at, n in self.memory if at <= window]
        late = [n for at, n in self.memory if at >= last - window]
        return int(fmean(late) - fmean(first))


async def soak(settings: Settings, keys: list[str]) -> str:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        entry = await asyncio.to_thread(app.state.host.wait, "tiny-gpt2", PATIENCE)
        await asyncio.to_thread(entry.means_settled.wait, PATIENCE)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t", timeout=None) as client:
            first = {"authorization": f"Bearer {keys[0]}"}
            asked = [await client.post(f"{URL}/{kind}", json=body, headers=first) for kind, body in QUESTIONS]
            run = Soak(client, [numbers(answer.json()) for answer in asked], time.monotonic() + SECONDS)
            for page in PAGES:  # what is made with the first page is no growth
                assert (await client.get(page, headers=first)).status_code == 200, page
            watching = asyncio.ensure_future(run.watch())
            began = time.monotonic()
            *answered, n_sweeps = await asyncio.gather(
                *(run.person(key, seed) for seed, key in enumerate(keys)), run.sweeps(keys[0])
            )
            watching.cancel()
            metrics = (await client.get("/metrics", headers=first)).text
    assert min(answered) > 0
    assert not [line for line in metrics.splitlines() if line.startswith("nullscope_requests") and 'status="5' in line]
    if SECONDS >= 120:
        assert run.growth() < 16 << 20, f"memory grew by {run.growth() >> 20} MiB"
    p95 = quantiles(run.waits, n=20)[-1]
    return (
        f"{sum(answered)} answers to {len(keys)} people and {n_sweeps} sweeps in {time.monotonic() - began:.0f} s, "
        f"p95 {p95:.3f} s, no 5xx, memory {run.growth() / (1 << 20):+.1f} MiB from the first to the last minute"
    )


def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """On a thread of its own: the browser tests' driver keeps an event loop running on the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(work, PATIENCE + SECONDS)).result()


def test_ten_people_at_once(model_folder: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    keys = KeyFile(tmp_path / "users.json")
    secrets = [keys.add(f"person{i}", "run") for i in range(10)]
    settings = Settings(
        data_dir=tmp_path, models=(str(model_folder),), device="cpu", effects_backend="eager", auth_file=keys.path,
        rate_per_minute=1e9, request_seconds=PATIENCE,
    )  # fmt: skip
    line = apart(soak(settings, secrets))
    record_property("soak", line)
    print(line)


def test_hundred_requests_of_one_delay_anothers_first_by_one(model_folder: Path, tmp_path: Path) -> None:
    """Fairness, counted in finished work: the second person's answer comes after at most one of the first's."""
    settings = Settings(
        data_dir=tmp_path, models=(str(model_folder),), device="cpu", effects_backend="eager", queue_size=200,
        queue_per_person=200,
    )  # fmt: skip

    async def talk() -> None:
        app = create_app(settings)
        host = app.state.host
        async with app.router.lifespan_context(app):
            entry = await asyncio.to_thread(host.wait, "tiny-gpt2")
            await asyncio.to_thread(entry.means_settled.wait)
            done: list[str] = []
            gate = asyncio.Event()
            loop = asyncio.get_running_loop()

            def held(resident: object) -> None:
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(60)

            def work(resident: object, who: str) -> None:
                done.append(who)

            first = asyncio.ensure_future(host.run("tiny-gpt2", held, who="ada"))
            many = [asyncio.ensure_future(host.run("tiny-gpt2", work, "ada", who="ada")) for _ in range(100)]
            await asyncio.sleep(0)
            one = asyncio.ensure_future(host.run("tiny-gpt2", work, "ben", who="ben"))
            while host.workers["cpu"].depth < 102:
                await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(first, one, *many)
            assert done.index("ben") <= 1
            assert done.count("ada") == 100

    apart(talk())
