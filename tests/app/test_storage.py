"""What a person may keep of uploads, sweeps and results: a share, an age, a list, a delete, and a clear answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from app.core.access.keys import KeyFile
from app.core.expiry import tidy
from app.core.store import results
from app.core.store.tables import Asked, Result
from tests.app import every_route
from tests.app.test_sweep_api import SMALL, data_dir, finished, started

TEXT = b"A text that is long enough for a row or two of it."
DAY = 86_400.0
Client = Callable[..., TestClient]


def upload(client: TestClient, content: bytes = TEXT, **more: Any) -> httpx.Response:
    return client.post("/api/v1/corpora", params={"name": "mine.txt"}, content=content, **more)


@pytest.fixture
def people(tmp_path: Path) -> dict[str, dict[str, str]]:
    keys = KeyFile(tmp_path / "users.json")
    roles = {"ada": "run", "ben": "run", "root": "admin"}
    return {name: {"authorization": f"Bearer {keys.add(name, role)}"} for name, role in roles.items()}  # type: ignore[arg-type]


# uploads


def test_an_upload_is_listed_and_deleted_at_every_door(make_client: Client, tmp_path: Path) -> None:
    client = make_client()
    first, second, third = (upload(client).json()["id"] for _ in range(3))
    view = client.get("/api/v1/corpora").json()
    assert {row["id"] for row in view["rows"]} == {first, second, third}
    assert view["used_bytes"] == 3 * len(TEXT)
    assert client.delete(f"/api/v1/corpora/{first}").status_code == 204
    page = client.get("/sweeps", headers={"accept": "text/html"}).text
    assert f"/sweeps/texts/{second}/delete" in page
    assert client.post(f"/sweeps/texts/{second}/delete", follow_redirects=False).status_code == 303
    environment = {"NULLSCOPE_DATA_DIR": str(data_dir(client))}
    rows = json.loads(CliRunner().invoke(main, ["texts", "list", "--json"], env=environment).output)["rows"]
    assert [row["id"] for row in rows] == [third]
    assert third in CliRunner().invoke(main, ["texts", "list"], env=environment).output
    assert CliRunner().invoke(main, ["texts", "delete", third], env=environment).exit_code == 0
    assert client.get("/api/v1/corpora").json()["rows"] == []
    assert [*(data_dir(client) / "corpora").iterdir()] == []
    missing = CliRunner().invoke(main, ["texts", "delete", third], env=environment)
    assert (missing.exit_code, f"no text '{third}'" in missing.output) == (2, True)
    for name in ("..", ".x", third):
        assert client.delete(f"/api/v1/corpora/{name}").status_code in (404, 405), name


def test_an_upload_is_its_owners_and_the_administrators(
    make_client: Client, people: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    client = make_client(auth_file=tmp_path / "users.json")
    text = upload(client, headers=people["ada"]).json()["id"]

    def seen(who: str) -> list[str]:
        return [row["id"] for row in client.get("/api/v1/corpora", headers=people[who]).json()["rows"]]

    assert (seen("ada"), seen("ben"), seen("root")) == ([text], [], [text])
    refused = client.delete(f"/api/v1/corpora/{text}", headers=people["ben"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_yours")
    assert client.post(f"/sweeps/texts/{text}/delete", headers=people["ben"]).status_code == 403
    assert client.delete(f"/api/v1/corpora/{text}", headers=people["root"]).status_code == 204


def test_a_persons_share_of_uploads_is_their_own(
    make_client: Client, people: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    client = make_client(auth_file=tmp_path / "users.json", upload_quota_bytes=2 * len(TEXT))
    first = upload(client, headers=people["ada"]).json()["id"]
    assert upload(client, headers=people["ada"]).status_code == 201
    refused = upload(client, headers=people["ada"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "quota_reached")
    assert "nullscope texts delete" in refused.json()["error"]["hint"]
    form = {"files": {"file": ("a.txt", TEXT)}, "headers": {**people["ada"], "accept": "text/html"}}
    page = client.post("/sweeps/text", **form)  # type: ignore[arg-type]
    assert page.status_code == 507
    assert "one person may have here" in page.text
    assert upload(client, headers=people["ben"]).status_code == 201
    client.delete(f"/api/v1/corpora/{first}", headers=people["ada"])
    assert upload(client, headers=people["ada"]).status_code == 201


def test_a_text_that_a_sweep_needs_stays_and_an_old_one_goes(make_client: Client) -> None:
    client = make_client(run_jobs=False)  # the sweep waits
    needed, other, young = (upload(client).json()["id"] for _ in range(3))
    sweep = started(client, **SMALL, corpus=needed)
    refused = client.delete(f"/api/v1/corpora/{needed}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "text_in_use")
    folder, now = data_dir(client) / "corpora", time.time()
    for text in (needed, other):
        os.utime(folder / f".{text}.json", (now - 31 * DAY, now - 31 * DAY))
    client.app.state.sweeps.expire(now)  # type: ignore[attr-defined]
    assert {row["id"] for row in client.get("/api/v1/corpora").json()["rows"]} == {needed, young}
    client.post(f"/api/v1/sweeps/{sweep}/cancel")
    client.delete(f"/api/v1/sweeps/{sweep}")
    assert [row["id"] for row in client.get("/api/v1/corpora").json()["rows"]] == [young]


# sweeps


def test_a_persons_share_of_sweeps_and_their_age(make_client: Client) -> None:
    client = make_client(sweep_quota_bytes=1, sweep_days=7)
    sweep = finished(client, started(client))["id"]
    refused = client.post("/api/v1/sweeps", json=SMALL)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "quota_reached")
    assert "Your sweeps take" in refused.json()["error"]["message"]
    expire = client.app.state.sweeps.expire  # type: ignore[attr-defined]
    expire(time.time() + 6 * DAY)
    assert client.get(f"/api/v1/sweeps/{sweep}").status_code == 200
    expire(time.time() + 8 * DAY)
    assert client.get(f"/api/v1/sweeps/{sweep}").status_code == 404
    assert not (data_dir(client) / "sweeps" / sweep).exists()
    assert client.post("/api/v1/sweeps", json=SMALL).status_code == 202


# results


def test_a_persons_share_of_results(make_client: Client) -> None:
    """Answers still come, without a permalink; whoever asks for one is told. What is there already may be had again."""
    client = make_client()
    trace = "/api/v1/models/tiny-gpt2/trace?store=true"
    before = client.post(trace, json={"text": "one"}).json()["permalink"]
    with client.app.state.database.reading() as session:  # type: ignore[attr-defined]
        size = results.taken(session, "local")
    assert size > 0
    client = make_client(result_quota_bytes=size)
    assert client.post(trace, json={"text": "one"}).json()["permalink"] == before
    assert client.post(trace, json={"text": "another"}).json()["permalink"] is None
    shared = client.post("/share", data={"text": "The cat sat"}, headers={"accept": "text/html"})
    assert "Your results take" in shared.text
    client.delete(f"/api/v1/results/{before.removeprefix('/r/')}")
    assert client.post(trace, json={"text": "on"}).json()["permalink"] is not None


def test_old_results_go_but_for_what_is_marked_or_asked_again(make_client: Client) -> None:
    client = make_client(result_days=7)
    trace = "/api/v1/models/tiny-gpt2/trace?store=true"
    names = {
        text: client.post(trace, json={"text": text}).json()["permalink"].removeprefix("/r/")
        for text in ("old", "pinned", "noted", "again")
    }
    client.post("/api/v1/pins", json={"target": f"result:{names['pinned']}"})
    client.post("/api/v1/notes", json={"target": f"result:{names['noted']}", "text": "look"})
    database, now = client.app.state.database, time.time()  # type: ignore[attr-defined]
    with database.session() as session:
        for row in (*session.query(Result), *session.query(Asked)):
            setattr(row, "at" if isinstance(row, Asked) else "created", now - 8 * DAY)
        session.get(Asked, ("local", names["again"])).at = now
    client.app.state.keeper.expire(now)  # type: ignore[attr-defined]
    there = {text for text, name in names.items() if client.get(f"/api/v1/results/{name}").status_code == 200}
    assert there == {"pinned", "noted", "again"}


def test_nothing_is_too_old_where_no_age_is_set(make_client: Client) -> None:
    client = make_client(upload_days=None)
    upload(client)
    client.post("/api/v1/models/tiny-gpt2/trace?store=true", json={"text": "old"})
    client.app.state.sweeps.expire(time.time() + 1e9)  # type: ignore[attr-defined]
    client.app.state.keeper.expire(time.time() + 1e9)  # type: ignore[attr-defined]
    assert len(client.get("/api/v1/corpora").json()["rows"]) == 1
    assert client.get("/api/v1/results").json()["total"] == 1


def test_a_rule_that_cannot_be_followed_holds_up_no_other() -> None:
    done: list[float] = []

    def broken(now: float) -> None:
        raise OSError("no disk")

    tidy((broken, done.append), 5.0)
    assert done == [5.0]


def test_a_form_is_not_taken_for_the_file_in_it(client: TestClient) -> None:
    """Its boundaries and headers were kept as the person's text. At every route whose body is a file."""
    files = [call for call in every_route.every() if "content" in call.more]
    assert {call.template for call in files} >= {"/api/v1/corpora", "/api/v1/import", "/api/v1/models/{key}/reference"}
    before = client.get("/api/v1/corpora").json()
    for call in files:
        form = {"params": call.more.get("params"), "files": {"file": ("x.txt", b"The cat sat.")}}
        answer = client.request(call.method, call.path, **form)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "form_not_file"), call
        assert "--data-binary" in answer.json()["error"]["hint"]
    assert client.get("/api/v1/corpora").json() == before
