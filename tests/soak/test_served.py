"""Ten people on a real server, heat maps and sweeps beside, two of them with the role view: it goes on answering.

No connection is reset, nobody's heat map is pushed out by others', what a role may not do is refused and nothing else.
`make soak` runs it for a minute and holds the server to answering /healthz within 100 ms (95th percentile).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from analysis.registry import bundled
from app.core.access.keys import KeyFile
from tests.app.served import Process
from tests.soak.test_soak import apart

SECONDS = float(os.environ.get("NULLSCOPE_SOAK_SECONDS", "0"))
TIMES = 6  # how often each person asks in the default run
HEALTH = 0.1  # seconds, the 95th percentile; asked of a machine that does nothing else
API = "/api/v1/models/demo"
TEXT = "The old man shook his head and said that he had never seen the like of it."
SWEEP = {"rows": 4, "length": 24, "shard_rows": 1, "bootstrap": 20, "sample_tokens": 16}
HTMX = {"HX-Request": "true", "HX-Target": "div#effects"}
# Asks again and again over one connection, and every tenth time over a new one; prints the seconds each took.
PROBE = """
import http.client, sys, time
port, connection, number = int(sys.argv[1]), None, 0
while True:
    number += 1
    began = time.monotonic()
    if connection is None or number % 10 == 0:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    assert (answer.status, answer.read()[:1]) == (200, b"{")
    print(time.monotonic() - began, flush=True)
    time.sleep(0.05)
"""

LOOKS = (
    *("/", "/atlas", "/nullspace", "/frequency", "/compare", "/sweeps", "/lab", "/jobs", "/models", "/m/demo/n/3.62"),
    *("/induction?example=repeats", "/api/v1/results", "/api/v1/sweeps", f"{API}/neurons", "/sweeps/bundled-demo"),
)


@dataclass
class House:
    """What the people share."""

    client: httpx.AsyncClient
    end: float
    links: list[str] = field(default_factory=list)
    answers: int = 0

    def goes_on(self, asked: int) -> bool:
        return time.monotonic() < self.end if SECONDS else asked < TIMES

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        """An answer; one that must wait comes again. A connection that is reset raises."""
        headers = {"authorization": f"Bearer {who}", "accept": "text/html", **more.pop("headers", {})}
        while True:
            answer = await self.client.request(method, path, headers=headers, **more)
            if answer.status_code != 429:
                self.answers += 1
                return answer
            await asyncio.sleep(min(1.0, float(answer.headers["retry-after"])))

    async def fine(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        answer = await self.ask(who, method, path, **more)
        assert answer.status_code in (200, 201, 202, 303), (method, path, answer.status_code, answer.text[:300])
        return answer

    async def worker(self, who: str, seed: int) -> None:
        """Looks at pages, computes, shares, opens what others shared."""
        chance, asked = random.Random(seed), 0
        while self.goes_on(asked):
            asked += 1
            text = f"{TEXT} {chance.random()}"
            match chance.randrange(6):
                case 0:
                    await self.fine(who, "POST", "/", data={"text": text})
                case 1:
                    answer = await self.fine(who, "POST", f"{API}/trace?store=true", json={"text": text})
                    if link := answer.json()["permalink"]:
                        self.links.append(link)
                case 2:
                    await self.fine(who, "POST", f"{API}/effects", json={"text": text, "limit": 20})
                case 3 if self.links:
                    await self.fine(who, "GET", chance.choice(self.links))
                case _:
                    await self.fine(who, "GET", chance.choice(LOOKS))

    async def mapper(self, who: str, seed: int) -> None:
        """One heat map after the other, each watched until it is whole: nobody else's takes its place."""
        chance, asked = random.Random(seed), 0
        while self.goes_on(asked):
            asked += 1
            text = f"{TEXT} {chance.random()}"
            page = await self.fine(who, "POST", "/effects", data={"text": text, "panel": "heatmap"}, headers=HTMX)
            while (name := re.search(r"/effects/heatmap/(\w+)", page.text)) is not None:
                await asyncio.sleep(0.4)  # as the page does
                page = await self.fine(who, "GET", f"/effects/heatmap/{name.group(1)}", headers=HTMX)

    async def viewer(self, who: str, seed: int) -> None:
        """Reads; what would compute is refused, and said to be."""
        chance, asked = random.Random(seed), 0
        while self.goes_on(asked):
            asked += 1
            if chance.random() < 0.3:
                path = f"/effects?panel=heatmap&text={TEXT.replace(' ', '+')}+{chance.random()}"
                answer = await self.ask(who, "GET", path)
                assert answer.status_code in (200, 403), answer.text[:300]
            else:
                answer = await self.ask(who, "GET", chance.choice([*LOOKS, *self.links[-20:]]))
                assert answer.status_code in (200, 403), (answer.url, answer.text[:300])

    async def sweeps(self, who: str, people: asyncio.Future[Any]) -> int:
        """One sweep after the other as long as the people ask; how many finished."""
        finished = 0
        while not people.done():
            started = await self.fine(who, "POST", "/api/v1/sweeps", json=SWEEP)
            state, name = "queued", started.json()["id"]
            while state in ("queued", "running"):
                await asyncio.sleep(0.2)
                state = (await self.fine(who, "GET", f"/api/v1/jobs/{name}")).json()["state"]
            assert state == "finished"
            finished += 1
        return finished


class Probe:
    """Another process that asks for /healthz; it fails with the first answer that is none."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROBE, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.seconds: list[float] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.seconds += map(float, self._process.stdout)

    def end(self) -> list[float]:
        """Seconds of each answer."""
        assert self._process.poll() is None, self._process.communicate()[1]
        self._process.terminate()
        self._reader.join()
        return self.seconds


async def day(server: Process, secrets: list[str]) -> tuple[int, int, list[float]]:
    limits = httpx.Limits(max_connections=40)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=None, limits=limits) as client:
        house = House(client, time.monotonic() + SECONDS)
        first_key = {"authorization": f"Bearer {secrets[0]}"}
        while (await client.get(API, headers=first_key)).json().get("mean") != "ready":
            await asyncio.sleep(0.1)  # asking is all that one can do with another process
        await house.fine(secrets[0], "GET", f"{API}/neurons")  # the atlas is computed once
        house.end = time.monotonic() + SECONDS
        probe = Probe(server.port)
        *workers, first, second, third, ada, ben = secrets
        people = asyncio.gather(
            *(house.worker(who, seed) for seed, who in enumerate(workers)),
            *(house.mapper(who, 100 + seed) for seed, who in enumerate((first, second, third))),
            *(house.viewer(who, 200 + seed) for seed, who in enumerate((ada, ben))),
        )
        sweeps = asyncio.ensure_future(house.sweeps(first, people))
        await people
        return house.answers, await sweeps, probe.end()


def test_a_day_of_ten_people(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    keys = KeyFile(tmp_path / "data" / "users.json")
    secrets = [keys.add(f"person{i}", "run") for i in range(8)] + [keys.add(f"guest{i}", "view") for i in range(2)]
    folder = bundled().folder
    assert folder is not None
    settings = {"NULLSCOPE_EFFECTS_BACKEND": "eager", "NULLSCOPE_RATE_PER_MINUTE": "1000000"}
    server = Process(tmp_path, folder, files=1024, **settings)
    try:
        answers, sweeps, waits = apart(day(server, secrets))
    finally:
        server.close()
    assert "Traceback" not in server.log, server.log[-3000:]
    *_, p95 = quantiles(waits, n=20)
    line = (
        f"{answers} answers to ten people and {sweeps} sweeps; /healthz asked {len(waits)} times: median "
        f"{1000 * sorted(waits)[len(waits) // 2]:.0f} ms, p95 {1000 * p95:.0f} ms, longest {1000 * max(waits):.0f} ms"
    )
    record_property("soak", line)
    print(line)
    if SECONDS:
        assert p95 < HEALTH, line
