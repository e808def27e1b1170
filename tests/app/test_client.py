"""The Python client: typed answers, errors with their reason, 429 waited for, no torch."""

import subprocess
import sys

import httpx
import pytest
from starlette.testclient import TestClient

from app.client import ApiError, Nullscope, to_pandas


class Through(httpx.BaseTransport):
    """The client's requests answered by an app of this process."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name in ("content-type", "authorization")}
        answer = self.client.request(request.method, str(request.url), content=request.read(), headers=headers)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def nullscope(client: TestClient) -> Nullscope:
    return Nullscope("http://testserver", transport=Through(client))


def test_it_imports_no_torch() -> None:
    code = "import app.client, sys; print(sorted({'torch', 'transformers', 'plotly', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_its_answers_are_the_apis(nullscope: Nullscope, client: TestClient) -> None:
    run = nullscope.trace("The cat", interventions=[{"neuron": "1.5", "mode": "zero"}], neurons=["0.3"])
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
    assert nullscope.neuron("1.5").model_dump()["provenance"]["model"] == "tiny-gpt2"


def test_an_error_has_its_reason(nullscope: Nullscope) -> None:
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

    client = Nullscope(transport=httpx.MockTransport(answer), sleep=waited.append)
    assert client.models().models == []
    assert waited == [7.0, 7.0]
    answers = iter([429, 429])
    impatient = Nullscope(transport=httpx.MockTransport(answer), sleep=waited.append, retries=1)
    with pytest.raises(ApiError, match="Busy"):
        impatient.models()


def test_a_job_is_followed_to_its_end() -> None:
    states = iter(["queued", "running", "finished"])

    def answer(request: httpx.Request) -> httpx.Response:
        job = {"id": "j", "state": next(states), "kind": "sweep", "model": "m", "stage": "", "done": 0, "total": 1}
        return httpx.Response(200, json={**job, "fraction": None})

    client = Nullscope(transport=httpx.MockTransport(answer), sleep=lambda _: None)
    assert [job.state for job in client.follow("j")] == ["queued", "running", "finished"]
