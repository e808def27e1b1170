"""The Python client: typed answers, errors with their reason, 429 waited for, no torch."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote

import httpx
import pytest
from starlette.testclient import TestClient

from app.lab.view import ExportView
from nullscope import ApiError, Client, to_pandas

PASSED = ("content-type", "authorization", "accept")


class Through(httpx.BaseTransport):
    """The client's requests answered by an app of this process."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name in PASSED}
        answer = self.client.request(request.method, str(request.url), content=request.read(), headers=headers)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def nullscope(client: TestClient) -> Client:
    return Client("http://testserver", transport=Through(client))


def test_it_imports_no_torch() -> None:
    code = "import nullscope, sys; print(sorted({'torch', 'transformers', 'plotly', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_its_answers_are_the_apis(nullscope: Client, client: TestClient) -> None:
    run = nullscope.trace("The cat", interventions=[{"neuron": "1.5", "mode": "zero"}], neurons=["0.3"], store=True)
    body = {"text": "The cat", "interventions": [{"neuron": "1.5", "mode": "zero"}], "neurons": ["0.3"]}
    assert run.model_dump(mode="json") == client.post("/api/v1/models/tiny-gpt2/trace", json=body).json()
    effects = nullscope.effects("The cat", limit=3, baseline="zero")
    assert len(effects.rows) == 3
    frame = pytest.importorskip("pandas") and to_pandas(effects)
    assert list(frame["d_entropy.total"]) == [row.d_entropy.total for row in effects.rows]
    assert run.permalink is not None
    assert nullscope.result(run.permalink.removeprefix("/r/")).verdict == "recomputed"
    assert nullscope.check().holds
    assert nullscope.joint("The cat", neurons=["1.5", "1.6"]).provenance.model == "tiny-gpt2"
    note = nullscope.write_note("neuron:tiny-gpt2/1.5", "seen")
    assert note.id in [row.id for row in nullscope.notes("neuron:tiny-gpt2/1.5").rows]
    assert nullscope.unpin("neuron:tiny-gpt2/1.5").rows == []
    made = nullscope.make_list("mine", ["1.5"], description="one")
    assert nullscope.edit_list(made.id, neurons=["1.5", "1.6"]).neurons == ["1.5", "1.6"]
    assert len(nullscope.list_history(made.id).rows) == 2
    assert made.id not in [row.id for row in nullscope.delete_list(made.id).rows]
    assert nullscope.ready().ready
    assert "nullscope_queue_depth" in nullscope.metrics()
    assert nullscope.heatmap("The cat", baseline="zero", limit=3, store=True).permalink is not None
    assert nullscope.neuron("1.5").model_dump()["provenance"]["model"] == "tiny-gpt2"


def calls_of_everything(nullscope: Client) -> dict[str, Callable[[], object]]:
    """Each public method with arguments that say nothing."""
    given = {
        "config": {}, "content": b"x", "neurons": ["1.1"], "heads": ["0.0"], "prompt": "x",
        "export": ExportView(notes=[], lists=[], revisions=[], pins=[], results=[], asked=[]),
    }  # fmt: skip
    found: dict[str, Callable[[], object]] = {}
    for name, method in inspect.getmembers(nullscope, inspect.ismethod):
        if not name.startswith("_") and name not in ("close", "follow", "writing"):  # `writing` is `generate` in steps
            needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
            named = [p.name for p in needed if p.kind is not p.VAR_KEYWORD]
            found[name] = partial(method, **{name: given.get(name, "x") for name in named})
    return found


def test_every_call_of_the_api_has_its_method_and_its_type(client: TestClient) -> None:
    """Against the OpenAPI document: each path and method is called by one method, which returns its schema's view."""
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        return httpx.Response(418)

    nullscope = Client("http://t", model="m", transport=httpx.MockTransport(answer))
    called: dict[tuple[str, str], str] = {}
    for name, call in calls_of_everything(nullscope).items():
        seen.clear()
        with pytest.raises(ApiError):
            call()
        called[seen[0]] = name
    document, missing = client.get("/api/v1/openapi.json").json(), []
    for path, methods in document["paths"].items():
        where = re.compile(re.sub(r"{[^}]+}", "[^/]+", path))
        for method, item in methods.items():
            # A fixed path (/sweeps/compare) is not the one with a name in its place.
            names = [
                name for (verb, at), name in called.items()
                if verb == method.upper() and where.fullmatch(at) and (at in document["paths"]) <= (at == path)
            ]  # fmt: skip
            if len(names) != 1:
                missing.append((method, path, names))
                continue
            schemas = [found.get("content", {}).get("application/json", {}).get("schema", {})
                       for status, found in item["responses"].items() if status.startswith("2")]  # fmt: skip
            expected = schemas[0].get("$ref", "").rsplit("/", 1)[-1]
            returned = inspect.signature(getattr(Client, names[0])).return_annotation
            name = re.sub(r"\W", "_", getattr(returned, "__name__", ""))  # as OpenAPI spells a generic type
            assert expected in ("", name), (path, expected, returned)
    assert missing == []


def test_an_error_has_its_reason(nullscope: Client) -> None:
    with pytest.raises(ApiError) as refused:
        nullscope.effects("The cat", neurons=["0.1"])
    assert (refused.value.status, refused.value.code) == (422, "not_last_layer")


def test_429_is_tried_again_after_the_named_delay() -> None:
    answers = iter([429, 429, 200])
    waited: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        status = next(answers)
        body = {"models": []} if status == 200 else {"error": {"code": "busy", "message": "Busy.", "hint": None}}
        return httpx.Response(status, json=body, headers={"Retry-After": "7"})

    client = Client(transport=httpx.MockTransport(answer), sleep=waited.append)
    assert client.models().models == []
    assert waited == [7.0, 7.0]
    answers = iter([429, 429])
    impatient = Client(transport=httpx.MockTransport(answer), sleep=waited.append, retries=1)
    with pytest.raises(ApiError, match="Busy"):
        impatient.models()


def test_a_delay_that_is_no_number_of_seconds_is_a_second() -> None:
    answers = iter([(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), (429, {}), (200, {})])
    waited: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        status, headers = next(answers)
        return httpx.Response(status, json={"models": []}, headers=headers)

    assert Client(transport=httpx.MockTransport(answer), sleep=waited.append).models().models == []
    assert waited == [1.0, 1.0]


def test_a_job_is_followed_to_its_end() -> None:
    states = iter(["queued", "running", "finished"])

    def answer(request: httpx.Request) -> httpx.Response:
        job = {"id": "j", "state": next(states), "kind": "sweep", "model": "m", "stage": "", "done": 0, "total": 1}
        return httpx.Response(200, json={**job, "fraction": None})

    client = Client(transport=httpx.MockTransport(answer), sleep=lambda _: None)
    assert [job.state for job in client.follow("j")] == ["queued", "running", "finished"]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "x?y", "#", "%2e", "é"])
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    """`..` would step up: DELETE of a list called so would be one of all lists."""
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.raw_path)
        return httpx.Response(404, json={"error": {"code": "x", "message": "seen", "hint": None}})

    client = Client(model="m", transport=httpx.MockTransport(answer))
    with pytest.raises(Exception, match="seen"):
        client.delete_list(name)
    (path,) = sent
    assert path.startswith(b"/api/v1/lists/")
    last = path.removeprefix(b"/api/v1/lists/").decode()
    assert last not in ("", ".", "..")
    assert "/" not in last
    assert unquote(last) == name
