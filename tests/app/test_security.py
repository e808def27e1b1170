"""Who may ask what, from where, and how much at once; checked before any work."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from app.core.security import host_name

URL = "/api/v1/models/tiny-gpt2/trace"
BODY = {"token_ids": [5, 6]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"sec-fetch-site": "same-origin", "origin": "http://testserver"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://testserver"}, 200),  # an older browser on our own page
        ({"sec-fetch-site": "cross-site", "origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://testserver.evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_a_change_of_state_comes_from_our_own_pages(client: TestClient, headers: dict[str, str], status: int) -> None:
    response = client.post(URL, json=BODY, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"]["code"] == "cross_origin"


def test_reading_is_not_refused_by_origin(client: TestClient) -> None:
    assert client.get("/api/v1/models", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/models", "/api/v1/nope", "/nope", "/"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"].split("style-src")[0]
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_a_body_that_is_too_large_is_413_however_it_comes(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_body_bytes=2000)
    large = b'{"text": "' + b"a" * 3000 + b'"}'
    json_type = {"content-type": "application/json"}

    def pieces():
        yield from (large[i : i + 100] for i in range(0, len(large), 100))

    for body in (large, pieces()):  # with a length, and chunked without one
        response = client.post(URL, content=body, headers=json_type)
        assert response.status_code == 413
        assert "2000" in response.json()["error"]["message"]
    assert client.post(URL, content=b"{}", headers={**json_type, "content-length": "x"}).status_code == 400
    assert client.post(URL, json=BODY).status_code == 200


def test_only_the_configured_host_names_are_answered(make_client: Callable[..., TestClient]) -> None:
    client = make_client(allowed_hosts=("localhost", "[::1]"))
    for host, status in (
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("", 403),
    ):
        assert client.get("/healthz", headers={"host": host}).status_code == status, host


def test_host_names_lose_their_port() -> None:
    assert [host_name(text) for text in ("a:80", "a", "[::1]:80", "[::1]", "A")] == ["a", "a", "[::1]", "[::1]", "a"]
