"""Who comes in, as what, from where; and what is never kept."""

import html as markup
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from analysis.types import InputError
from app.core.access.gate import COOKIE, FORWARDED, check_address
from app.core.access.keys import KeyFile
from app.core.access.rates import Buckets
from app.core.errors import BusyError
from app.core.settings import Settings
from app.main import create_app
from tests.app.conftest import bearer

URL = "/api/v1/models"


@pytest.fixture
def closed(make_door: Callable[..., TestClient], tmp_path: Path) -> tuple[TestClient, KeyFile, dict[str, str]]:
    """An app with one person a role, and their keys."""
    keys = KeyFile(tmp_path / "users.json")
    secrets = {role: keys.add(f"{role}-person", role) for role in ("view", "run", "admin")}  # type: ignore[arg-type]
    return make_door(auth_file=keys.path), keys, secrets


def test_a_key_opens_and_nothing_else_does(closed: tuple[TestClient, KeyFile, dict[str, str]]) -> None:
    client, keys, secrets = closed
    assert client.get(URL).status_code == 401
    assert client.get(URL, headers=bearer(secrets["view"])).status_code == 200
    assert client.get(URL, headers=bearer("ns_0000_wrong")).status_code == 401
    assert client.get("/healthz").status_code == 200
    keys.revoke("view-person")
    assert client.get(URL, headers=bearer(secrets["view"])).status_code == 401


def test_the_last_key_revoked_opens_nothing(make_door: Callable[..., TestClient], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "data" / "users.json")
    client = make_door(data_dir=tmp_path / "data")
    assert client.get(URL).status_code == 200
    keys.add("ada", "run")
    assert client.get(URL).status_code == 401
    keys.revoke("ada")
    assert client.get(URL).status_code == 401


def test_a_new_token_ends_the_sessions_of_the_old_one(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    data = tmp_path / "data"
    old = TestClient(create_app(make_settings(data_dir=data, token="the-token-of-before"))).__enter__()
    old.post("/login", data={"key": "the-token-of-before"})
    assert old.get(URL).status_code == 200
    old.__exit__(None, None, None)  # one server at a time has a data folder
    for token, status in (("the-token-of-before", 200), ("the-token-of-today", 401)):
        with TestClient(create_app(make_settings(data_dir=data, token=token))) as again:
            assert again.get(URL, headers={"cookie": f"{COOKIE}={old.cookies[COOKIE]}"}).status_code == status


@pytest.mark.parametrize("header", FORWARDED)
def test_what_a_proxy_sends_on_is_not_the_operator(make_client: Callable[..., TestClient], header: str) -> None:
    client = make_client(wait=False)
    roles = [client.get("/lab", params={"format": "json"}, headers=sent).json()["role"] for sent in ({}, {header: "x"})]
    assert roles == ["admin", "run"]


def test_a_proxy_cannot_name_the_operator(make_settings: Callable[..., Settings]) -> None:
    app = create_app(make_settings(trusted_proxies=("10.0.0.1",)))
    with TestClient(app, client=("10.0.0.1", 1)) as client:
        assert client.get(URL, headers={"x-forwarded-user": "local"}).status_code == 403


def test_a_browser_logs_in_and_out(closed: tuple[TestClient, KeyFile, dict[str, str]]) -> None:
    client, _, secrets = closed
    html = {"accept": "text/html"}
    asked = client.get("/lab", headers=html, follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/lab")
    address = "/atlas?layer=1&neurons=1.3%2C+1.4"
    page = client.get(address, headers=html)  # the form, which carries the whole address
    assert f'value="{markup.escape(address)}"' in page.text
    after = client.post("/login", data={"key": secrets["run"], "next": address}, follow_redirects=False)
    assert after.headers["location"] == address
    client.cookies.clear()
    wrong = client.post("/login", data={"key": "ns_0_0", "next": "/lab"})
    assert (wrong.status_code, COOKIE in client.cookies) == (401, False)
    client.cookies.set(COOKIE, "chosen-by-somebody-else")  # session fixation
    entered = client.post("/login", data={"key": secrets["run"], "next": "/lab"}, follow_redirects=False)
    cookie = entered.headers["set-cookie"]
    assert entered.headers["location"] == "/lab"
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    assert "chosen-by-somebody-else" not in cookie
    assert secrets["run"] not in cookie
    secret = cookie.split("=", 1)[1].split(";")[0]
    client.cookies.clear()
    as_them = {"cookie": f"{COOKIE}={secret}"}
    assert "run-person" in client.get("/lab", headers={**html, **as_them}).text
    cross = client.post("/lab/pins", data={"target": "x"}, headers={**as_them, "sec-fetch-site": "cross-site"})
    assert cross.status_code == 403
    client.post("/logout", headers=as_them)
    assert client.get(URL, headers=as_them).status_code == 401


def test_a_session_ends_with_its_key(closed: tuple[TestClient, KeyFile, dict[str, str]]) -> None:
    client, keys, secrets = closed
    client.post("/login", data={"key": secrets["run"]})
    assert client.get(URL).status_code == 200
    keys.revoke("run-person")
    assert client.get(URL).status_code == 401


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "login", "/login", ""])
def test_after_login_one_stays_here(closed: tuple[TestClient, KeyFile, dict[str, str]], target: str) -> None:
    client, _, secrets = closed
    entered = client.post("/login", data={"key": secrets["run"], "next": target}, follow_redirects=False)
    assert entered.headers["location"] == "/"


def test_people_see_their_own_and_change_their_own(closed: tuple[TestClient, KeyFile, dict[str, str]]) -> None:
    client, keys, secrets = closed
    other = keys.add("other", "run")
    body = {"target": "neuron:m/1.5", "text": "mine"}
    note = client.post("/api/v1/notes", json=body, headers=bearer(secrets["run"])).json()
    assert (note["author"], note["mine"]) == ("run-person", True)
    path = f"/api/v1/notes/{note['id']}"
    assert client.put(path, json={"text": "theirs"}, headers=bearer(other)).status_code == 403
    assert client.delete(path, headers=bearer(other)).status_code == 403
    assert client.get("/api/v1/pins", headers=bearer(other)).json()["rows"] == []
    assert client.delete(path, headers=bearer(secrets["admin"])).status_code == 200


def test_a_proxys_word_counts_only_from_a_configured_address(
    make_client: Callable[..., TestClient], make_settings: Callable[..., Settings]
) -> None:
    spoofed = {"x-forwarded-user": "ada", "x-forwarded-for": "127.0.0.1"}
    for trusted, peer, status, person in (
        ((), "10.0.0.9", 401, None),
        (("10.0.0.1",), "10.0.0.9", 401, None),
        (("10.0.0.0/24",), "10.0.0.9", 200, "ada"),
    ):
        app = create_app(make_settings(trusted_proxies=trusted))
        with TestClient(app, client=(peer, 1)) as client:
            answer = client.get("/lab", params={"format": "json"}, headers=spoofed)
            assert answer.status_code == status
            assert (answer.json().get("person") if status == 200 else None) == person


def test_other_addresses_are_refused_unless_somebody_said_so(tmp_path: Path) -> None:
    def settings(**more: object) -> Settings:
        return Settings(data_dir=tmp_path, **more)  # type: ignore[arg-type]

    check_address(settings(), "127.0.0.1")
    for address in ("0.0.0.0", "192.168.1.5", "::"):
        with pytest.raises(InputError, match="everybody"):
            check_address(settings(), address)
        check_address(settings(insecure_open=True), address)
        check_address(settings(token="a-long-enough-token"), address)
    with pytest.raises(InputError, match="names nobody"):
        check_address(settings(auth_file=tmp_path / "none.json"), "0.0.0.0")
    KeyFile(tmp_path / "users.json").add("ada", "run")
    check_address(settings(), "0.0.0.0")


def test_a_bucket_refills_and_a_clock_set_back_gives_nothing() -> None:
    now = [0.0]
    buckets = Buckets(60, lambda: now[0])
    for _ in range(60):
        buckets.take("a", 1)
    with pytest.raises(BusyError) as refused:
        buckets.take("a", 1)
    assert refused.value.retry_after == pytest.approx(1.0)
    buckets.take("b", 1)
    now[0] = 2.0
    buckets.take("a", 2)
    with pytest.raises(BusyError):
        buckets.take("a", 1)


def test_what_costs_more_than_a_minute_holds_is_let_through_once_it_is_full() -> None:
    now = [0.0]
    buckets = Buckets(6, lambda: now[0])
    buckets.take("a", 10)
    with pytest.raises(BusyError) as refused:
        buckets.take("a", 10)
    now[0] = refused.value.retry_after
    buckets.take("a", 10)


def test_the_rate_limit_is_per_person(make_door: Callable[..., TestClient], tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "users.json")
    ada, ben = keys.add("ada", "run"), keys.add("ben", "run")
    client = make_door(auth_file=keys.path, rate_per_minute=3)
    codes = [client.get(URL, headers=bearer(ada)).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    assert client.get(URL, headers=bearer(ben)).status_code == 200


def test_settings_show_no_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, token="do-not-print-this", database_url="postgresql://u:pw-secret@h/d")  # type: ignore[arg-type]
    assert "do-not-print-this" not in settings.model_dump_json() + repr(settings)
    assert "pw-secret" not in settings.model_dump_json() + repr(settings)
