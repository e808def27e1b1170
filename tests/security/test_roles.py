"""Every route against the role table; ids and bodies that are not what they should be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.access.keys import KeyFile
from app.access.roles import needed
from app.main import create_app
from app.settings import Settings

PUBLIC = {"/healthz", "/readyz", "/login", "/logout"}


@pytest.fixture(scope="module")
def closed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """An app with one person a role."""
    folder = tmp_path_factory.mktemp("closed")
    keys = KeyFile(folder / "users.json")
    people = {role: keys.add(role, role) for role in ("view", "run", "admin")}  # type: ignore[arg-type]
    settings = Settings(
        data_dir=folder, models=(str(model_folder),), device="cpu", auth_file=keys.path, effects_backend="eager",
        rate_per_minute=1e6,
    )  # fmt: skip
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        client.app.state.host.wait("tiny-gpt2")  # type: ignore[attr-defined]
        yield client, people


def operations(client: TestClient) -> list[tuple[str, str]]:
    """(method, path) of every route, parameters filled with something that does not exist."""
    import re

    found = []

    def walk(routes: list[object], prefix: str = "") -> None:
        for route in routes:
            inner = getattr(getattr(route, "original_router", None), "routes", None) or getattr(route, "routes", None)
            path = getattr(route, "path", "")
            if inner and not getattr(route, "methods", None):
                walk(inner, prefix)
            for method in getattr(route, "methods", None) or ():
                found.append((method, prefix + re.sub(r"{[^}]+}", "none", path)))

    walk(list(client.app.router.routes))  # type: ignore[attr-defined]
    schema = client.app.openapi()  # type: ignore[attr-defined]
    for path, methods in schema["paths"].items():
        found += [(method.upper(), re.sub(r"{[^}]+}", "none", path)) for method in methods]
    return sorted({(method, path) for method, path in found if method != "HEAD"})


def test_every_route_asks_who_one_is_and_what_one_may(closed: tuple[TestClient, dict[str, str]]) -> None:
    client, people = closed
    every = operations(client)
    assert len(every) > 40, every
    assert ("POST", "/lab/notes") in every
    for method, path in every:
        if path.startswith("/static") or path in PUBLIC:
            continue
        need = needed(method, path)
        assert need != "public", (method, path)
        assert client.request(method, path, follow_redirects=False).status_code == 401, (method, path)
        for role, key in people.items():
            may = ["view", "run", "admin"].index(role) >= ["view", "run", "admin"].index(need)
            if may and role != need:
                continue  # the lowest role that may is enough to try
            headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
            answer = client.request(method, path, headers=headers, follow_redirects=False)
            refused = answer.status_code == 403 and answer.json()["error"]["code"] == "role"
            assert refused is not may, (method, path, role, answer.status_code)
            assert answer.status_code != 500, (method, path, answer.text)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_no_rule_names_needs_run_to_change(method: str) -> None:
    for path in ("/anything", "/api/v1/anything", "/static/../x", "/healthz/x", "/loginx"):
        assert needed(method, path) in ("run", "admin")


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "'; DROP TABLE results;--",
        "%",
        "_" * 64,
        "a" * 5000,
        "😀" * 8,
        "0" * 64,
        "<svg>",
    ],
)
def test_ids_from_nowhere_are_not_found(closed: tuple[TestClient, dict[str, str]], name: str) -> None:
    client, people = closed
    headers = {"authorization": f"Bearer {people['admin']}", "accept": "application/json"}
    for path in ("/r/", "/api/v1/results/", "/api/v1/lists/", "/lab/notes/"):
        answer = client.get(path + name, headers=headers)
        assert answer.status_code in (404, 422), (path, answer.status_code)
        assert "<svg>" not in answer.text or answer.headers["content-type"].startswith("application/json")


def test_a_body_nested_without_end_is_refused(closed: tuple[TestClient, dict[str, str]]) -> None:
    client, people = closed
    headers = {"authorization": f"Bearer {people['admin']}", "content-type": "application/json"}
    for path in ("/api/v1/models/tiny-gpt2/trace", "/api/v1/notes", "/api/v1/import"):
        for body in (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000):
            assert client.post(path, content=body, headers=headers).status_code in (400, 422), path


def test_another_site_can_change_nothing(closed: tuple[TestClient, dict[str, str]]) -> None:
    """Every route that changes something, as a page elsewhere would send it with the browser's cookie."""
    client, people = closed
    client.post("/login", data={"key": people["admin"]})
    assert client.get("/lab").status_code == 200  # the cookie is there
    tried = 0
    for method, path in operations(client):
        if method in ("GET", "OPTIONS"):
            continue
        tried += 1
        for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil"}):
            answer = client.request(method, path, headers={**headers, "accept": "application/json"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin"), (method, path)
    assert tried > 30
    client.cookies.clear()


def test_a_session_that_somebody_else_planted_opens_nothing(closed: tuple[TestClient, dict[str, str]]) -> None:
    """Fixation: the login gives a new secret, and the planted one is worth nothing before or after."""
    client, people = closed
    planted = "a" * 43
    client.cookies.set("nullscope_session", planted)
    assert client.get("/api/v1/results").status_code == 401
    answer = client.post("/login", data={"key": people["run"]}, follow_redirects=False)
    fresh = answer.cookies["nullscope_session"]
    assert fresh != planted
    client.cookies.clear()
    for secret, status in ((planted, 401), (fresh, 200)):
        assert client.get("/api/v1/results", headers={"cookie": f"nullscope_session={secret}"}).status_code == status


def test_headers_that_a_proxy_would_send_change_nobody(closed: tuple[TestClient, dict[str, str]]) -> None:
    client, people = closed
    forged = {
        "x-forwarded-user": "admin", "x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1",
        "forwarded": "for=127.0.0.1",
        "x-forwarded-host": "localhost", "x-forwarded-proto": "https", "x-original-url": "/healthz",
        "x-rewrite-url": "/healthz", "x-http-method-override": "GET", "remote-user": "admin",
    }  # fmt: skip
    assert client.get("/api/v1/results", headers=forged).status_code == 401
    viewer = {**forged, "authorization": f"Bearer {people['view']}"}
    refused = client.post("/api/v1/models/tiny-gpt2/trace", json={"text": "x"}, headers=viewer)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role")
