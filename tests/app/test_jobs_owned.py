"""Long work and the queue: a person sees and ends their own, an administrator everybody's."""

import asyncio
import html
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from app.core.access.keys import KeyFile
from app.core.settings import Settings
from app.main import create_app

SWEEP = {"shard_rows": 1, "length": 12, "bootstrap": 20, "sample_tokens": 16}


@pytest.fixture
def people(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Headers of each."""
    keys = KeyFile(tmp_path / "users.json")
    named = {"ada": "run", "ben": "run", "root": "admin", "eve": "view"}
    return {
        name: {"authorization": f"Bearer {keys.add(name, role)}", "accept": "application/json"}  # type: ignore[arg-type]
        for name, role in named.items()
    }


def test_a_job_is_its_owners_and_the_administrators(
    make_client: Callable[..., TestClient], people: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    client = make_client(auth_file=tmp_path / "users.json", run_jobs=False)  # so that the job stays queued

    def ask(who: str, method: str, path: str, **more: Any) -> httpx.Response:
        return client.request(method, path, headers=people[who], follow_redirects=False, **more)

    job = ask("ada", "POST", "/api/v1/sweeps", json=SWEEP).json()["id"]
    rows = ask("ada", "GET", "/api/v1/jobs").json()["rows"]
    assert [(row["id"], row["person"], row["state"]) for row in rows] == [(job, "ada", "queued")]
    assert ask("ben", "GET", "/api/v1/jobs").json()["rows"] == []
    assert ask("ben", "GET", "/api/v1/jobs?who=lab").status_code == 403
    refused = (
        ("GET", f"/api/v1/jobs/{job}"),
        ("POST", f"/api/v1/jobs/{job}/cancel"),
        ("POST", f"/jobs/{job}/cancel"),
        ("POST", f"/api/v1/sweeps/{job}/cancel"),
        ("POST", f"/sweeps/{job}/cancel"),
        ("POST", f"/api/v1/sweeps/{job}/resume"),
        ("POST", f"/sweeps/{job}/resume"),
        ("DELETE", f"/api/v1/sweeps/{job}"),
        ("POST", f"/sweeps/{job}/delete"),
        ("POST", f"/api/v1/models/tiny-gpt2/induction/ablation/jobs/{job}/cancel"),
        ("POST", f"/induction/jobs/{job}/cancel"),
    )
    for method, path in refused:
        answer = ask("ben", method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_yours"), path
    assert ask("ada", "GET", f"/api/v1/jobs/{job}").json()["state"] == "queued"
    assert job in [row["id"] for row in ask("root", "GET", "/api/v1/jobs?who=lab").json()["rows"]]
    page = client.get("/jobs?who=lab", headers={**people["root"], "accept": "text/html"})
    assert job in page.text
    assert "ada" in page.text
    assert job not in client.get("/jobs", headers={**people["ben"], "accept": "text/html"}).text
    assert ask("root", "POST", f"/api/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert ask("ada", "DELETE", f"/api/v1/sweeps/{job}").status_code == 204


def test_a_sweep_goes_by_its_name_among_jobs_too(make_client: Callable[..., TestClient]) -> None:
    client = make_client(run_jobs=False)
    for body in (SWEEP, {**SWEEP, "name": "Tuesday's <run>"}):
        client.post("/api/v1/sweeps", json=body)
    rows = client.get("/api/v1/jobs").json()["rows"]
    sweeps = {each["id"]: each["name"] for each in client.get("/api/v1/sweeps").json()["sweeps"]}
    assert {row["id"]: row["name"] for row in rows} == {row["id"]: sweeps[row["id"]] for row in rows}
    page = client.get("/jobs", headers={"accept": "text/html"}).text
    for row in rows:
        assert f"<bdi>{html.escape(row['name'], quote=False)}</bdi>" in page.replace("&#39;", "'")


def test_ones_place_in_the_queue_is_seen(
    make_settings: Callable[..., Settings], people: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    settings = make_settings(auth_file=tmp_path / "users.json")

    async def talk() -> None:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            host = app.state.host
            await asyncio.to_thread(host.entry("tiny-gpt2").means_settled.wait)
            go = threading.Event()
            waiting = [asyncio.ensure_future(host.run("tiny-gpt2", lambda _: go.wait(120), who="ada", kind="held"))]
            while host.workers["cpu"].running is None:
                await asyncio.sleep(0)
            for who in ("ada", "ada", "ben"):
                waiting.append(asyncio.ensure_future(host.run("tiny-gpt2", lambda _: None, who=who, kind="trace")))
            while host.workers["cpu"].depth < 4:
                await asyncio.sleep(0)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None) as client:
                seen = {name: (await client.get("/api/v1/queue", headers=people[name])).json() for name in people}
            places = {
                name: [(row["person"], row["kind"], row["state"], row["ahead"]) for row in view["rows"]]
                for name, view in seen.items()
            }
            assert places["ben"] == [("ben", "trace", "waiting", 2)]  # the one that runs, and one of ada's
            assert places["ada"] == [
                ("ada", "held", "running", 0),
                ("ada", "trace", "waiting", 1),
                ("ada", "trace", "waiting", 3),
            ]
            assert places["eve"] == []
            assert len(places["root"]) == 4
            assert {view["depth"] for view in seen.values()} == {4}
            go.set()
            await asyncio.gather(*waiting)

    asyncio.run(talk())
