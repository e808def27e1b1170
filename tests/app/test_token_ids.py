"""A token id is an integer, at every door: true, "5" and 5.0 are none, and none is taken for another."""

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from nullscope import Client

NONE = (True, False, "5", "", 5.0, 5.5, None, [5], {"id": 5}, -1, "٣")


def doors(client: TestClient) -> Iterator[tuple[str, str]]:
    """(path, field) of every call whose body has a list of integers that count from 0: ids, positions, offsets."""
    schema = client.get("/api/v1/openapi.json").json()
    for path, methods in schema["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        name = (body or {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        for field, options in schema["components"]["schemas"].get(name, {}).get("properties", {}).items():
            for one in options.get("anyOf", [options]):
                if one.get("type") == "array" and one["items"].get("type") == "integer":
                    yield path.replace("{key}", "tiny-gpt2").replace("{neuron}", "1.5"), field


def test_what_is_no_integer_is_no_id(client: TestClient) -> None:
    found = list(doors(client))
    assert len([path for path, field in found if field == "token_ids"]) > 6
    for path, field in found:
        for value in NONE:
            answer = client.post(path, json={field: [5, value]})
            assert answer.status_code == 422, (path, field, value)
            assert f"the 2nd of {field} " in answer.json()["error"]["message"], (path, field, value)


def numbers(client: TestClient) -> Iterator[tuple[str, str]]:
    """(path, field) of every call whose body has a number of its own."""
    schema = client.get("/api/v1/openapi.json").json()
    for path, methods in schema["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        name = (body or {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        for field, options in schema["components"]["schemas"].get(name, {}).get("properties", {}).items():
            kinds = {one.get("type") for one in options.get("anyOf", [options])}
            if kinds & {"integer", "number"} and "boolean" not in kinds:
                yield path.replace("{key}", "tiny-gpt2").replace("{neuron}", "1.5"), field


def test_true_is_no_number(client: TestClient) -> None:
    found = list(numbers(client))
    assert len(found) > 30
    for path, field in found:
        answer = client.post(path, json={field: True})
        assert answer.status_code == 422, (path, field)
        assert field in answer.json()["error"]["message"], (path, field)


@pytest.mark.parametrize("position", [True, "1", 1.0])
def test_what_is_no_integer_is_no_position(client: TestClient, position: Any) -> None:
    url, ids = "/api/v1/models/tiny-gpt2", {"token_ids": [5, 6, 7]}
    clip = {"neuron": "1.5", "mode": "zero"}
    for positions in ([position], {"start": 0, "stop": position}):
        body = {**ids, "interventions": [{**clip, "positions": positions}]}
        assert client.post(f"{url}/trace", json=body).status_code == 422, positions


@pytest.mark.parametrize("text", ["5,x", "5,", "5,1_0", "5,+6", "5,-6", "5,6.0", "5,٣", "5,²", "5,12345678901"])
def test_the_shell_takes_digits_only(text: str) -> None:
    refused = CliRunner().invoke(main, ["trace", "--token-ids", text, "--url", "http://127.0.0.1:9"])
    assert refused.exit_code == 2
    assert "--token-ids must be whole numbers" in refused.output


def test_the_client_takes_integers_of_any_type() -> None:
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(404, json={"error": {"code": "x", "message": "seen", "hint": None}})

    client = Client(model="m", transport=httpx.MockTransport(answer))
    with pytest.raises(Exception, match="seen"):
        client.trace(np.array([5, 6]))  # type: ignore[arg-type]
    assert b'"token_ids":[5,6]' in sent[0].replace(b" ", b"")
    for ids in ([5, True], [5, 6.0], ["5"]):
        with pytest.raises(TypeError):
            client.trace(ids)  # type: ignore[arg-type]
