"""The model writes: the whole and the stream say the same, a trace of the text agrees, and it ends where it should."""

from __future__ import annotations

import csv
import io
import json

import pytest
from starlette.testclient import TestClient

from app.core.access.gate import Gate
from app.generate.page_request import WriteState
from app.generate.questions import GENERATE
from app.generate.written import Written, pieces
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
    page = client.post(
        "/write", data={"model": "tiny-gpt2", "text": "a", "written": ",".join(map(str, full["token_ids"][2:]))}
    )
    assert page.status_code == 200


SAMPLED = {"token_ids": IDS, "temperature": 1.5, "seed": 6, "stop_at_eos": False, "neurons": ["0.5"], "top_neurons": 2}


def numbers(told: dict) -> list[dict]:
    return [{name: value for name, value in step.items() if name != "given"} for step in told["tokens"]]


@pytest.mark.parametrize("first", [1, 4, 7])
def test_what_is_taken_up_again_is_what_is_written_in_one_go(client: TestClient, first: int) -> None:
    once = client.post(f"{URL}/generate", json={**SAMPLED, "max_new_tokens": 8}).json()
    written = [step["id"] for step in once["tokens"]][:first]
    body = {**SAMPLED, "written": written, "max_new_tokens": 8 - first}
    again = client.post(f"{URL}/generate", params={"store": True}, json=body).json()
    assert [step["id"] for step in again["tokens"]] == [step["id"] for step in once["tokens"]]
    assert [step["given"] for step in again["tokens"]] == [True] * first + [False] * (8 - first)
    assert (again["text"], again["prompt"]) == (once["text"], once["prompt"])
    assert differing(numbers(again), numbers(once), 2e-5) == []
    name = again["permalink"].rpartition("/")[2]
    assert client.get(f"/api/v1/results/{name}").json()["verdict"] == "recomputed"


def differing(one: object, other: object, most: float, at: str = "") -> list[str]:
    """Where two answers differ: numbers by more than so much of their size."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for name in one for found in differing(one[name], other[name], most, f"{at}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for i, (a, b) in pairs for found in differing(a, b, most, f"{at}.{i}")]
    if isinstance(one, float) and isinstance(other, float):
        return [] if one == pytest.approx(other, abs=most, rel=most) else [at]
    return [] if one == other else [at]


def test_another_choice_is_gone_on_with_as_the_text_it_branches_from(client: TestClient) -> None:
    """The draws of a place are the same in every branch, so a branch that returns to the text's token is the text."""
    once = client.post(f"{URL}/generate", json={**SAMPLED, "max_new_tokens": 6}).json()
    ids = [step["id"] for step in once["tokens"]]
    other = next(each["id"] for each in once["tokens"][2]["top"] if each["id"] != ids[2])
    body = {**SAMPLED, "written": [*ids[:2], other], "max_new_tokens": 3}
    told = client.post(f"{URL}/generate", json=body).json()
    assert [step["id"] for step in told["tokens"]][:3] == [*ids[:2], other]
    back = client.post(f"{URL}/generate", json={**body, "written": ids[:3]}).json()
    assert [step["id"] for step in back["tokens"]] == ids


def test_a_written_text_is_told_and_nothing_added(client: TestClient) -> None:
    given = tiny.token_ids(9)[5:]
    told = client.post(f"{URL}/generate", json={"token_ids": IDS, "written": given, "max_new_tokens": 0}).json()
    assert [step["id"] for step in told["tokens"]] == given
    assert told["finish_reason"] == "length"
    for wrong in ({"written": []}, {"written": [10**6]}, {"written": ["x"]}, {"written": tiny.token_ids(tiny.N_CTX)}):
        answer = client.post(f"{URL}/generate", json={"token_ids": IDS, "max_new_tokens": 0, **wrong})
        assert answer.status_code == 422, wrong
        assert answer.json()["error"]["message"]


def test_a_stop_text_over_the_seam_counts_and_one_before_it_does_not(client: TestClient) -> None:
    body = {**SAMPLED, "max_new_tokens": 12, "temperature": 3.0, "seed": 1}
    once = client.post(f"{URL}/generate", json=body).json()
    pieces = [step["piece"] for step in once["tokens"]]
    at = next(
        i for i in range(3, 12) if pieces[i - 1] and pieces[i] and pieces[i - 1] + pieces[i] not in "".join(pieces[:i])
    )
    over, before = pieces[at - 1] + pieces[at], pieces[0]
    taken_up = {**body, "written": [step["id"] for step in once["tokens"]][:at], "max_new_tokens": 12 - at}
    one_go = client.post(f"{URL}/generate", json={**body, "stop": [over]}).json()
    again = client.post(f"{URL}/generate", json={**taken_up, "stop": [over]}).json()
    assert (again["finish_reason"], again["text"]) == ("stop", one_go["text"])
    assert len(again["tokens"]) == len(one_go["tokens"]) == at + 1
    if before not in "".join(pieces[at:]):
        on = client.post(f"{URL}/generate", json={**taken_up, "stop": [before]}).json()
        assert on["text"] == once["text"]


def test_the_prompt_is_shown_in_whole_characters(client: TestClient) -> None:
    """The tiny tokenizer has a token a byte."""
    told = client.post(f"{URL}/generate", json={"text": "a é☃𝔸!", "max_new_tokens": 1}).json()
    shown = [token["piece"] for token in told["prompt"] if not token["special"]]
    assert shown == ["a", " ", "", "é", "", "", "☃", "", "", "", "𝔸", "!"]
    model = client.app.state.host.entry("tiny-gpt2").replicas[0][1].model  # type: ignore[attr-defined]
    half = model.encode("☃", prepend_bos=False)[:2]
    assert pieces(model, [*half, *model.encode("b", prepend_bos=False)])[-1].endswith("b")


FORM = {"text": "A dog", "n": "3", "model": "tiny-gpt2", "temperature": "1.5", "seed": "4"}
DATA = {"accept": "application/json"}


def test_what_is_kept_of_the_page_is_what_it_shows_and_not_a_fresh_run(client: TestClient) -> None:
    first = client.post("/write", data=FORM, headers=DATA).json()["answer"]
    written = [step["id"] for step in first["tokens"]]
    shown = {**FORM, "written": ",".join(map(str, written)), "panel": "shown"}
    for n, ids in (("2", None), ("0", written)):
        told = client.post("/write", data={**shown, "n": n}, headers=DATA).json()["answer"]
        found = [step["id"] for step in told["tokens"]]
        assert found[:3] == written
        assert len(found) == 3 + int(n)
        assert ids is None or found == ids
        rows = list(csv.DictReader(io.StringIO(client.post("/write?format=csv-raw", data={**shown, "n": n}).text)))
        assert [int(row["id"]) for row in rows] == found
        assert rows[0]["given"] == "True"
        assert float(rows[1]["neuron 1 d_entropy.total"]) == told["tokens"][1]["neurons"][0]["d_entropy"]["total"]
        assert rows[1]["choice 2 text"] == told["tokens"][1]["top"][1]["text"]
        assert client.post(f"/r/{told['provenance']['request_sha256']}", follow_redirects=False).status_code < 400


def test_the_code_of_what_is_shown_asks_for_it_and_runs_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid: list[float] = []
    monkeypatch.setattr(Gate, "admit_to", lambda self, who, role, cost, **more: paid.append(cost))
    html = client.post(
        "/write", data={**FORM, "written": "5,6", "panel": "shown"}, headers={"accept": "text/html"}
    ).text
    assert "&#34;written&#34;: [5, 6]" in html
    assert GENERATE.cost not in paid


def test_no_tokens_are_no_text_to_go_on_with(client: TestClient) -> None:
    for more in ({}, {"written": "5,6"}):
        for accept in ("text/html", "text/event-stream, application/json"):
            answer = client.post("/write", data={**FORM, "n": "0", **more}, headers={"accept": accept})
            assert answer.status_code == 422
            assert "Tokens" in answer.text


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"n": "many"}, "Tokens must be a whole number"),
        ({"top_p": "2"}, "Top p must be at most 1."),
        ({"watch": "x.y"}, "Watched neurons: "),
        ({"turned": "1.3:scale"}, "Turned neurons: "),
        ({"panel": "dial", "d1": "", "d3": "nothing"}, "Dial 3, neurons: "),
        ({"panel": "dial", "d2": "1.3", "d2_value": "x"}, "Dial 2, value: "),
        ({"panel": "dial", "d2": "1.3", "d2_value": "9"}, "Dial 2: "),
    ],
)
def test_what_is_wrong_is_called_what_stands_beside_the_field(client: TestClient, wrong: dict, word: str) -> None:
    said = client.post("/write", data={**FORM, **wrong}, headers=DATA).json()["error"]["message"]
    assert said.startswith(word), said


def test_the_end_of_a_line_can_be_typed_as_a_stop_text() -> None:
    for typed, meant in (("\\n", "\n"), ("a\\tb", "a\tb"), ("\\\\n", "\\n"), ("\\", "\\"), ("x", "x")):
        assert WriteState(stop=typed).asked(top_neurons=0).stop == [meant]


def test_the_page_turns_neurons_where_it_says_and_tells_what_is_watched(client: TestClient) -> None:
    form = {**FORM, "turned": "1.3:value=3", "apply_to": "new", "watch": "0.5, 1.3"}
    told = client.post("/write", data=form, headers=DATA).json()["answer"]
    body = {"text": "A dog", "max_new_tokens": 3, "temperature": 1.5, "seed": 4, "apply_to": "new"}
    turned = {"interventions": ["1.3:value=3"], "neurons": ["0.5", "1.3"], "alternatives": 8, "top_neurons": 3}
    assert told["tokens"] == client.post(f"{URL}/generate", json={**body, **turned}).json()["tokens"]
    assert told["tokens"][0]["activations"]["1.3"] != 3
    assert told["tokens"][1]["activations"]["1.3"] == 3
