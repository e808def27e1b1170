"""The OpenAPI document describes every call and its errors in the one shape; no input makes a 500."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from tests.app.words import foreign

API, KEY = "/api/v1", "tiny-gpt2"


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/api/v1/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, item) for path, methods in document["paths"].items() for method, item in methods.items()]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/api/v1/models"),
        ("get", "/api/v1/models/{key}"),
        ("post", "/api/v1/models/{key}/trace"),
        ("post", "/api/v1/models/{key}/effects"),
        ("get", "/healthz"),
        ("get", "/readyz"),
    ],
)
def test_the_calls_of_the_contract_are_there(document: dict[str, Any], method: str, path: str) -> None:
    assert method in document["paths"][path]


def test_every_call_says_what_it_is_for_and_how_it_fails(document: dict[str, Any]) -> None:
    for path, method, item in operations(document):
        assert item.get("description"), f"{method} {path} has no description"
        refused = item["responses"]["422"]["content"]["application/json"]["schema"]
        assert refused["$ref"].endswith("/ErrorView"), f"{method} {path}"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    names = [item["operationId"] for _, _, item in operations(document)]
    assert len(names) == len(set(names))


def test_pages_are_not_part_of_it(document: dict[str, Any]) -> None:
    assert all(re.match(r"/api/v1/|/(healthz|readyz|metrics)$", path) for path in document["paths"])


def test_unknown_keys_are_refused_wherever_a_body_is_taken(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, method, item in operations(document):
        schema = item.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in schema:
            found = schemas[schema["$ref"].rsplit("/", 1)[-1]]
            assert found.get("additionalProperties") in (False, {"type": "number"}), f"{method} {path}"


@pytest.fixture(scope="module")
def fuzzed(client: TestClient) -> Any:
    """The running app; schemathesis would start and stop it at every call, so that part is answered here."""

    async def running(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await client.app(scope, receive, send)
            return
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})

    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", running)


def test_no_input_makes_a_500(fuzzed: Any) -> None:
    """Its own generators, driven by hypothesis here: schemathesis' pytest plugin does not know this pytest."""

    def attempt(case: schemathesis.Case) -> None:
        if "key" in (case.path_parameters or {}):
            case.path_parameters["key"] = KEY  # else nearly every call would end at an unknown model
        drawn = case.body
        # Text or ids and not both is no rule of JSON Schema's kind: as drawn, nearly every prompt would end there.
        asks = isinstance(drawn, dict) and case.path.endswith(("/trace", "/effects"))
        prompts = [{**drawn, "text": "a b", "token_ids": None}] if asks else []
        for case.body in (drawn, *prompts):
            response = case.call()
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                error = response.json()["error"]
                assert set(error) == {"code", "message", "hint"}
                assert foreign(error["message"]) == []

    bounded = settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    tried = []
    for found in fuzzed.get_all_operations():
        operation = found.ok()
        tried.append(operation.path)
        bounded(given(case=operation.as_strategy())(lambda case: attempt(case)))()
    assert f"{API}/models/{{key}}/effects" in tried
