"""Who may only look has nothing computed, stores nothing and takes nothing from others; looking never stores."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from analysis.model import Model
from app.core.access.keys import KeyFile
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from app.core.store import Database
from app.core.store.tables import Base
from tests.app.conftest import make_client, make_settings
from tests.app.served import until
from tests.app.test_followed import PROGRESS, finished, held, start
from tests.app.test_isolation import serving
from tests.security.table import MODEL, SMALL

__all__ = ["make_client", "make_settings"]
API = f"/api/v1/models/{MODEL}"
TEXT = {"text": "The cat sat on the mat"}
ASKING = [
    ("/effects", {"panel": "heatmap", **TEXT}),
    ("/effects", {"panel": "joint", **TEXT}),
    ("/effects", {"panel": "dose", "neurons": "1.3", **TEXT}),
    ("/effects", {"panel": "ledger", **TEXT}),
    ("/effects", {}),
    ("/", TEXT),
    ("/", {}),
    (f"/m/{MODEL}/n/1.3", TEXT),
    ("/atlas/1.3", TEXT),
    ("/nullspace", TEXT),
    ("/nullspace", {"direction": "1"}),
    ("/frequency", TEXT),
    ("/frequency", {"neuron": "1.5"}),
    ("/induction", {}),
    ("/induction", {"kind": "text", **TEXT}),
    ("/induction/heads", {}),
    ("/selfcheck", {}),
    ("/sweeps/{sweep}/calibration", {}),
]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every forward pass of any model."""
    run, seen = Model.run, []

    def counted(self: Model, *args: Any, **more: Any) -> Any:
        seen.append(args)
        return run(self, *args, **more)

    monkeypatch.setattr(Model, "run", counted)
    return seen


def rows(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    with database.session() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }


def people(tmp_path: Path) -> dict[str, dict[str, str]]:
    keys = KeyFile(tmp_path / "users.json")
    return {role: {"authorization": f"Bearer {keys.add(role, role)}"} for role in ("view", "run")}  # type: ignore[arg-type]


def swept(client: TestClient, headers: dict[str, str]) -> str:
    """A finished sweep."""
    sweep: str = client.post("/api/v1/sweeps", json=SMALL, headers=headers).json()["id"]
    until(lambda: client.get(f"/api/v1/jobs/{sweep}", headers=headers).json()["state"] == "finished")
    return sweep


def test_a_reader_has_nothing_computed_and_nobody_stores_by_looking(
    make_client: Callable[..., TestClient], tmp_path: Path, passes: list[Any]
) -> None:
    known = people(tmp_path)
    client = make_client(auth_file=tmp_path / "users.json")
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    sweep = swept(client, known["run"])
    for path in ("/nullspace", "/frequency", "/atlas"):  # what these pages show by themselves, once for all
        client.get(path, headers=known["view"])
    before, n_passes = rows(database), len(passes)
    for path, query in ASKING:
        answer = client.get(path.format(sweep=sweep), params=query, headers={**known["view"], "accept": "text/html"})
        assert answer.status_code == 403, (path, query)
        assert "Computing this needs the role run; view has view." in answer.text, (path, query)
        if "calibration" not in path:  # the page still stands
            assert "<nav" in answer.text, path
            assert query.get("text", "") in answer.text, path
    assert len(passes) == n_passes
    for path, query in ASKING:
        answer = client.get(path.format(sweep=sweep), params=query, headers={**known["run"], "accept": "text/html"})
        assert answer.status_code in (200, 422), (path, query, answer.text)
    assert len(passes) > n_passes
    for path in (f"/sweeps/{sweep}", f"/api/v1/sweeps/{sweep}"):
        assert client.get(path, headers=known["run"]).status_code == 200
    assert rows(database) == before


def test_what_a_page_shows_is_stored_once_its_reader_shares_it_and_runs_nothing_again(
    make_client: Callable[..., TestClient], tmp_path: Path, passes: list[Any]
) -> None:
    known = people(tmp_path)
    known["other"] = {"authorization": f"Bearer {KeyFile(tmp_path / 'users.json').add('other', 'run')}"}
    client = make_client(auth_file=tmp_path / "users.json")
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    before = rows(database)
    panels = ("heatmap", "joint", "dose", "ledger", "lens")
    asked = [
        *(("/effects", {**TEXT, "panel": panel, "neurons": "1.3"}) for panel in panels),
        ("/why", {**TEXT, "along": "true", "follow": "1.3", "vs": "1"}),
        ("/write", {**TEXT, "n": "2"}),
        ("/induction", {"kind": "random", "rows": "1", "length": "6"}),
        ("/induction/heads", {"rows": "1"}),
    ]
    found: set[str] = set()
    for path, form in asked:
        page = client.post(path, data=form, headers={**known["run"], "accept": "text/html"})
        shares = set(re.findall(r'formaction="/r/([0-9a-f]{64})"', page.text))
        assert shares, (path, form, page.text[-2000:])
        found |= shares
    assert len(found) == len(asked) + 3  # one page has four answers
    assert rows(database) == before
    n_passes = len(passes)
    for name in found:
        gone = client.post(f"/r/{name}", headers={**known["other"], "accept": "application/json"})
        assert gone.json()["error"]["code"] == "not_shown"  # only to the one who asked
        assert client.post(f"/r/{name}", headers=known["run"], follow_redirects=False).status_code == 303
    assert len(passes) == n_passes
    assert client.get("/api/v1/results", headers=known["run"]).json()["total"] == len(found)
    for name in found:
        told = client.get(f"/r/{name}", params={"format": "json"}, headers=known["run"]).json()
        assert told["verdict"] == "recomputed", told["sentence"]


def test_the_api_stores_what_it_is_asked_to_store(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    one = client.post(f"{API}/trace", json=TEXT).json()
    assert (one["permalink"], client.get("/api/v1/results").json()["total"]) == (None, 0)
    link = client.post(f"{API}/trace?store=true", json=TEXT).json()["permalink"]
    assert link == "/r/" + one["provenance"]["request_sha256"]
    assert client.post(f"{API}/trace", json=TEXT).json()["permalink"] == link  # it is there
    for kind in ("text/csv", "application/x-ndjson"):
        refused = client.post(f"{API}/heatmap?store=true", json=TEXT, headers={"accept": kind})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "nothing_to_store")


def test_a_reader_reads_what_is_stored(
    make_client: Callable[..., TestClient], tmp_path: Path, passes: list[Any]
) -> None:
    """Permalinks as they were stored, of every kind; whoever may compute gets them computed again."""
    known = people(tmp_path)
    client = make_client(auth_file=tmp_path / "users.json", cache_bytes=0)  # every computing is a pass
    made = [
        client.post(f"{API}/{name}?store=true", json={**TEXT, **more}, headers=known["run"]).json()["permalink"]
        for name, more in (("trace", {}), ("effects", {}), ("heatmap", {}), ("joint", {"neurons": ["1.3"]}))
    ]
    made.append(client.post("/share", data=TEXT, headers=known["run"], follow_redirects=False).headers["location"])
    n_passes = len(passes)
    for link in made:
        found = client.get(link, params={"format": "json"}, headers=known["view"])
        assert found.status_code == 200, found.text
        told = found.json().get("saved") or found.json()
        assert told["verdict"] == "cached"
        assert told["sentence"] == (
            "Cached: these are the stored numbers. Computing this needs the role run; view has view."
        )
        page = client.get(link, headers={**known["view"], "accept": "text/html"})
        assert page.status_code == 200, page.text
        assert "cat" in page.text
        assert client.get(f"{link}/page.html", headers=known["view"]).status_code == 200
    assert len(passes) == n_passes
    fresh = client.get(f"/api/v1/results/{made[0].removeprefix('/r/')}", headers=known["run"]).json()
    assert fresh["verdict"] == "recomputed"
    assert len(passes) == n_passes + 1


def test_the_pages_own_examples_are_run_once_for_everybody(
    make_client: Callable[..., TestClient], tmp_path: Path, passes: list[Any]
) -> None:
    known = people(tmp_path)
    client = make_client(auth_file=tmp_path / "users.json")
    shown = [client.get(path, headers=known["view"]) for path in ("/nullspace", "/frequency")]
    assert [answer.status_code for answer in shown] == [200, 200]
    assert all('data-chart="' + name in page.text for name, page in zip(("walk", "shift"), shown, strict=True))
    n_passes = len(passes)
    for _ in range(3):
        for path in ("/nullspace", "/frequency"):
            assert client.get(path, headers=known["view"]).status_code == 200
    assert len(passes) == n_passes


def test_three_hundred_requests_of_a_reader_push_nothing_of_others_out(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Another person's heat map is under way all the while, and is finished as if nobody else had been there."""
    known = people(tmp_path)

    async def talk(client: httpx.AsyncClient, host: ModelHost) -> None:
        async def ask(n: int) -> int:
            params = {"panel": "heatmap", "text": f"The cat {n}"}
            return (await client.get("/effects", params=params, headers=known["view"])).status_code

        with held(host):
            url = await start(client, known["run"], "theirs")
            depth = host.workers["cpu"].depth
            assert set(await asyncio.gather(*(ask(n) for n in range(300)))) == {403}
            assert host.workers["cpu"].depth == depth
            assert (await client.get(url, headers={**PROGRESS, **known["run"]})).status_code == 200
        assert 'data-chart="heatmap"' in await finished(client, known["run"], url)

    serving(make_settings(auth_file=tmp_path / "users.json"), talk)
