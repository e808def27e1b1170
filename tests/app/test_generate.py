"""The model writes: the whole and the stream say the same, a trace of the text agrees, and it ends where it should."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from app.core.access.gate import Gate
from app.generate.questions import GENERATE
from app.generate.written import Written
from nullscope.client import ApiError, Client
from tests import tiny
from tests.app.test_client import Through

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(5)


def asked(client: TestClient, **more: object) -> dict:
    response = client.post(f"{URL}/generate?store=true", json={"token_ids": IDS, "max_new_tokens": 5, **more})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_trace_of_what_was_written_has_the_same_numbers(client: TestClient) -> None:
    do = [{"neuron": "1.3", "mode": "scale", "value": 3.0}]
    told = asked(client, interventions=do, neurons=["0.5"], stop_at_eos=False)
    ids = IDS + [step["id"] for step in told["tokens"]]
    run = client.post(f"{URL}/trace", json={"token_ids": ids, "interventions": do, "neurons": ["0.5"]}).json()
    run = run["intervened"]
    for step in told["tokens"]:
        at = step["position"] - 1
        for name in ("entropy", "ln_scale", "kl_unigram"):
            if step[name] is not None:
                assert step[name] == pytest.approx(run[name][at], abs=2e-5)
        assert step["rank"] == run["rank"][at]
        assert step["activations"]["0.5"] == pytest.approx(run["activations"]["0.5"][at], abs=2e-5)


def test_the_neurons_of_a_step_are_those_of_the_effects_there(client: TestClient) -> None:
    told = asked(client, top_neurons=3, stop_at_eos=False)
    step = told["tokens"][2]
    ids = IDS + [each["id"] for each in told["tokens"]]
    body = {"token_ids": ids, "position": step["position"] - 1, "limit": 3}
    rows = client.post(f"{URL}/effects", json=body).json()["rows"]
    assert [row["neuron"] for row in step["neurons"]] == [row["neuron"] for row in rows]
    for one, row in zip(step["neurons"], rows, strict=True):
        for part in ("total", "direct", "ln_mediated"):
            assert one["d_entropy"][part] == pytest.approx(row["d_entropy"][part], abs=2e-5)


def test_the_lines_are_the_whole_token_by_token(client: TestClient) -> None:
    body = {"token_ids": IDS, "max_new_tokens": 4, "temperature": 1.0, "seed": 2, "stop_at_eos": False}
    answer = client.post(f"{URL}/generate", json=body, headers={"accept": "application/x-ndjson"})
    *parts, whole = [json.loads(line) for line in answer.text.splitlines()]
    assert [part["tokens"][0] for part in parts] == whole["tokens"]
    assert "".join(part["text"] for part in parts) == whole["text"]
    assert whole["finish_reason"] == "length"
    again = client.post(f"{URL}/generate", json=body).json()
    assert again["tokens"] == whole["tokens"]


def test_events_tell_what_lines_tell(client: TestClient) -> None:
    body = {"token_ids": IDS, "max_new_tokens": 4, "temperature": 1.0, "seed": 2, "stop_at_eos": False}
    lines = client.post(f"{URL}/generate", json=body, headers={"accept": "application/x-ndjson"}).text.splitlines()
    answer = client.post(f"{URL}/generate", json=body, headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert [json.loads(event.removeprefix("data: "))["tokens"] for event in events] == [
        json.loads(line)["tokens"] for line in lines
    ]


def test_an_event_stream_that_is_refused_has_its_status(client: TestClient) -> None:
    wrong = {"token_ids": IDS, "neurons": ["9.1"]}
    assert client.post(f"{URL}/generate", json=wrong, headers={"accept": "text/event-stream"}).status_code == 404


def test_the_pieces_of_the_tokens_are_the_text(client: TestClient) -> None:
    told = asked(client, max_new_tokens=20, temperature=5.0, seed=3, stop_at_eos=False)
    assert "".join(step["piece"] for step in told["tokens"]) == told["text"]


def test_the_client_reads_it_as_it_is_written(client: TestClient) -> None:
    with Client("http://testserver", model="tiny-gpt2", transport=Through(client)) as speaker:
        *parts, whole = speaker.writing(IDS, max_new_tokens=4, stop_at_eos=False)
        assert [part.tokens[0] for part in parts] == whole.tokens
        with pytest.raises(ApiError):
            next(speaker.writing(IDS, neurons=["9.1"]))


def test_it_stops_before_a_text_that_runs_over_tokens(client: TestClient) -> None:
    told = asked(client, max_new_tokens=12, temperature=3.0, seed=1, stop_at_eos=False)
    text = told["text"]
    middle = text[len(text) // 2 : len(text) // 2 + 2]
    ended = asked(client, max_new_tokens=12, temperature=3.0, seed=1, stop_at_eos=False, stop=[middle])
    assert ended["finish_reason"] == "stop"
    assert ended["text"] == text[: text.index(middle)]


def test_no_line_tells_a_part_of_a_stop_text(client: TestClient) -> None:
    body = {"token_ids": IDS, "max_new_tokens": 12, "temperature": 3.0, "seed": 1, "stop_at_eos": False}
    text = client.post(f"{URL}/generate", json=body).json()["text"]
    for start in range(0, len(text) - 3, 2):
        stopped = {**body, "stop": [text[start : start + 3]]}
        answer = client.post(f"{URL}/generate", json=stopped, headers={"accept": "application/x-ndjson"})
        *parts, whole = [json.loads(line) for line in answer.text.splitlines()]
        assert "".join(part["text"] for part in parts) == whole["text"] == text[: text.index(stopped["stop"][0])]


def test_what_may_yet_be_a_stop_text_is_told_in_the_end(client: TestClient) -> None:
    body = {"token_ids": IDS, "max_new_tokens": 6, "temperature": 3.0, "seed": 1, "stop_at_eos": False}
    text = client.post(f"{URL}/generate", json=body).json()["text"]
    held = {**body, "stop": [text[-2:] + "\u2603"]}
    answer = client.post(f"{URL}/generate", json=held, headers={"accept": "application/x-ndjson"})
    *parts, whole = [json.loads(line) for line in answer.text.splitlines()]
    assert "".join(part["text"] for part in parts) == whole["text"] == text


def test_it_ends_with_what_the_model_reads(client: TestClient) -> None:
    most = client.post(f"{URL}/tokens", json={"token_ids": IDS}).json()["max_tokens"]
    told = asked(client, max_new_tokens=2048, stop_at_eos=False)
    assert told["finish_reason"] == "context"
    assert len(told["tokens"]) == most - len(IDS)


def test_a_permalink_writes_it_again(client: TestClient) -> None:
    name = asked(client, temperature=1.0, seed=7)["permalink"].rpartition("/")[2]
    assert client.get(f"/api/v1/results/{name}").json()["verdict"] == "recomputed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_k": 0},
        {"max_new_tokens": 0},
        {"neurons": ["9.1"]},
        {"apply_to": "new", "interventions": [{"neuron": "0.5", "mode": "zero", "positions": [2]}]},
        {"apply_to": "prompt", "interventions": [{"neuron": "0.5", "mode": "zero", "positions": [7]}]},
    ],
)
def test_what_cannot_be_asked_is_refused(client: TestClient, wrong: dict) -> None:
    response = client.post(f"{URL}/generate", json={"token_ids": IDS, **wrong})
    assert response.status_code in (404, 422)
    assert response.json()["error"]["message"]


def test_the_page_writes_before_the_reference_means_are_there_and_pays_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.app.state.host.entry("tiny-gpt2").means, "value", None)  # type: ignore[attr-defined]
    paid: list[float] = []
    monkeypatch.setattr(Gate, "admit_to", lambda self, who, role, cost, **more: paid.append(cost))
    form = {"text": "A dog", "n": "2", "model": "tiny-gpt2"}
    answer = client.post("/write", data=form, headers={"accept": "text/event-stream"})
    assert answer.status_code == 200
    told = json.loads(answer.text.partition("\n\n")[0].removeprefix("data: "))
    assert len(told["tokens"]) == 1
    assert not told["tokens"][0]["neurons"]
    assert client.post("/write", data=form).status_code == 200
    assert paid.count(GENERATE.cost) == 2
    turned = client.post(
        "/write", data={**form, "turned": "1.3:mean"}, headers={"accept": "text/event-stream, application/json"}
    )
    assert turned.status_code == 409


def test_no_piece_holds_half_a_character(client: TestClient) -> None:
    """The tiny tokenizer has a token a byte: of a character of several bytes only the last token brings anything."""
    model = client.app.state.host.entry("tiny-gpt2").replicas[0][1].model  # type: ignore[attr-defined]
    text = "a é☃𝔸!"
    written, told = Written(model, IDS, ["☃!"]), list[str]()
    pieces = [written.add(token) for token in model.encode(text, prepend_bos=False)]
    assert pieces == ["a", " ", "", "é", "", "", "☃", "", "", "", "𝔸", "!"]
    again = Written(model, IDS, ["☃!"])
    for token in model.encode(text, prepend_bos=False):
        again.add(token)
        told.append(again.new())
    assert "".join([*told, again.new(whole=True)]) == text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join([*pieces, *told])


def test_the_end_of_text_at_once_is_one_token_and_no_text(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked(client, max_new_tokens=1, stop_at_eos=False)["tokens"][0]["id"]
    monkeypatch.setattr("analysis.generate.ends", lambda model: frozenset([first]))
    told = asked(client, max_new_tokens=5)
    assert (told["finish_reason"], told["text"], len(told["tokens"])) == ("eos", "", 1)
    assert told["confidence"]["n"] == 1
    lines = client.post(
        f"{URL}/generate", json={"token_ids": IDS, "max_new_tokens": 5}, headers={"accept": "application/x-ndjson"}
    )
    assert [json.loads(line)["finish_reason"] for line in lines.text.splitlines()] == [None, "eos"]


def test_where_the_context_is_full_nothing_is_written(client: TestClient) -> None:
    most = client.post(f"{URL}/tokens", json={"token_ids": IDS}).json()["max_tokens"]
    full = {"token_ids": tiny.token_ids(most), "max_new_tokens": 5}
    told = client.post(f"{URL}/generate", json=full).json()
    assert (told["finish_reason"], told["text"], told["tokens"], told["confidence"]) == ("context", "", [], None)
    page = client.post("/write", data={"model": "tiny-gpt2", "text": "a", "ids": ",".join(map(str, full["token_ids"]))})
    assert page.status_code == 200
