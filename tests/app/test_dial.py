"""The dial at every door: the numbers of the API, the page, the job and its permalink are the same."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from nullscope.client import Client
from tests import tiny
from tests.app.served import until
from tests.app.test_client import Through

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(5)
BODY = {"token_ids": IDS, "max_new_tokens": 4, "stop_at_eos": False, "dials": ["1.3,1.4:scale=3", "0.5:value=1"]}


def asked(client: TestClient, **more: object) -> dict:
    response = client.post(f"{URL}/dial?store=true", json={**BODY, **more})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_texts_are_those_that_generate_writes(client: TestClient) -> None:
    told = asked(client, seed=4)
    kinds = [(arm["kind"], arm["dial"]) for arm in told["arms"]]
    one = [("dial", 0), ("temperature", 0), ("neurons", 0)]
    assert kinds == [("undisturbed", None), *one, *[(kind, 1) for kind, _ in one]]
    common = {"token_ids": IDS, "max_new_tokens": 4, "stop_at_eos": False, "temperature": 0.8, "seed": 4}
    turned = ([], ["1.3:scale=3", "1.4:scale=3"], ["0.5:value=1"])
    for arm, do in zip((told["arms"][0], told["arms"][1], told["arms"][4]), turned, strict=True):
        written = client.post(f"{URL}/generate", json={**common, "interventions": do}).json()
        (text,) = arm["texts"]
        assert text["token_ids"] == [step["id"] for step in written["tokens"]]
        assert text["text"] == written["text"] == "".join(text["pieces"])
        assert text["entropy"] == pytest.approx([step["entropy"] for step in written["tokens"]], abs=2e-5)
    for arm in told["arms"]:
        if arm["kind"] == "temperature":
            assert arm["reached"] == pytest.approx(arm["wanted"], abs=2e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_dial_at_once_its_activation_is_the_baseline_token_for_token(client: TestClient, temperature: float) -> None:
    """And so are its twins: the temperature 1, and random neurons at once theirs."""
    told = asked(client, dials=["1.3,0.5:scale=1"], temperature=temperature, seed=2, max_new_tokens=12)
    baseline, turned, hotter, random = (arm["texts"][0] for arm in told["arms"])
    for text in (turned, hotter, random):
        assert text["token_ids"] == baseline["token_ids"]
        assert text["entropy"] == pytest.approx(baseline["entropy"], abs=2e-5)
        assert text["numbers"]["shared"] == text["numbers"]["length"] == 12
    assert (told["arms"][2]["temperature"], random["factor"]) == (1.0, 1.0)
    for arm in told["arms"][1:]:
        assert arm["means"]["entropy"]["difference"] == pytest.approx(0, abs=2e-5)


def test_means_are_those_of_the_texts_and_have_intervals_from_ten_on(client: TestClient) -> None:
    told = asked(client, dials=["1.3:scale=-2"], seeds=10, twins=False, max_new_tokens=2)
    undisturbed, turned = told["arms"]
    for name, mean in turned["means"].items():
        own, other = ([text["numbers"][name] for text in arm["texts"]] for arm in (turned, undisturbed))
        assert mean["mean"] == pytest.approx(sum(own) / 10)
        assert mean["difference"] == pytest.approx((sum(own) - sum(other)) / 10)
        assert mean["low"] <= mean["mean"] <= mean["high"]
    assert [text["seed"] for text in turned["texts"]] == list(range(10))


def test_the_page_shows_what_the_api_tells(client: TestClient) -> None:
    form = {"text": "A dog", "n": "3", "model": "tiny-gpt2", "panel": "dial", "d1": "1.3 1.4", "d1_value": "3"}
    told = client.post("/write", data=form, headers={"accept": "application/json"}).json()["dial"]
    body = {"text": "A dog", "max_new_tokens": 3, "dials": ["1.3,1.4:scale=3"]}
    assert told["arms"] == client.post(f"{URL}/dial", json=body).json()["arms"]
    html = client.post("/write", data=form).text
    for arm in told["arms"]:
        assert arm["name"] in html
    rows = client.post("/write?format=csv", data=form).text.splitlines()
    assert len(rows) == 1 + len(told["arms"])


def test_a_page_whose_dials_cannot_be_says_why_and_keeps_what_was_typed(client: TestClient) -> None:
    form = {"text": "A dog", "n": "3", "model": "tiny-gpt2", "panel": "dial", "d1": "9.3", "d2_value": "1.5"}
    answer = client.post("/write", data=form)
    assert answer.status_code == 422
    assert 'value="9.3"' in answer.text
    assert 'value="1.5"' in answer.text
    assert "There is no neuron 9.3." in answer.text
    assert client.post("/write", data={**form, "d1": ""}).status_code == 422


def test_a_job_finds_what_the_question_answers(client: TestClient) -> None:
    with Client("http://testserver", model="tiny-gpt2", transport=Through(client)) as speaker:
        dials = [{"neurons": ["1.3"], "value": 2.0}]
        job = speaker.start_dial(IDS, dials, max_new_tokens=3, seeds=2, stop_at_eos=False)
        until(lambda: speaker.job(job.id).state == "finished")
        found = speaker.dial_job(job.id).result
        now = speaker.dial(IDS, dials, max_new_tokens=3, seeds=2, stop_at_eos=False)
    assert found is not None
    assert found.arms == now.arms
    assert f'href="/write/jobs/{job.id}"' in client.get("/jobs").text
    assert found.arms[1].name in client.get(f"/write/jobs/{job.id}").text


def test_the_pages_job_stands_on_its_page(client: TestClient) -> None:
    form = {"text": "A dog", "n": "2", "model": "tiny-gpt2", "panel": "job", "d1": "1.3", "seeds": "2"}
    queued = client.post("/write", data=form, headers={"accept": "application/json"}).json()["job"]
    until(lambda: client.get(f"/api/v1/jobs/{queued['id']}").json()["state"] == "finished")
    shown = client.get(f"/write/jobs/{queued['id']}", headers={"accept": "application/json"}).json()
    assert shown["state"]["d1"] == "1.3"
    assert [len(arm["texts"]) for arm in shown["dial"]["arms"]] == [2, 2, 2, 2]
    html = client.get(f"/write/jobs/{queued['id']}", headers={"accept": "text/html"}).text
    (csv,) = re.findall(r'<a class="link" href="([^"]+format=csv)\s*"', html)
    rows = client.get(csv).text.splitlines()
    assert len(rows) == 1 + 8, "what it found, which may be more than one may ask for at once"


def test_long_work_is_not_repeated_for_opening_its_permalink(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.generate.dial_request.REPEATED", 1)
    name = asked(client, seed=9)["permalink"].rpartition("/")[2]
    saved = client.get(f"/api/v1/results/{name}").json()
    assert saved["verdict"] == "cached"
    assert "not repeated" in saved["sentence"]


def test_what_takes_longer_than_a_request_may_is_a_jobs_work(client: TestClient) -> None:
    """At once it would be thrown away half done."""
    long = {"dials": ["1.3:scale=2"], "seeds": 50, "max_new_tokens": 256}
    answer = client.post(f"{URL}/dial", json={**BODY, **long})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "too_much_at_once"
    assert "job" in answer.json()["error"]["hint"]
    form = {"text": "A dog", "n": "256", "model": "tiny-gpt2", "d1": "1.3", "seeds": "50"}
    page = client.post("/write", data={**form, "panel": "dial"})
    assert page.status_code == 422
    assert "at once at most" in page.text
    job = client.post(f"{URL}/dial/jobs", json={**BODY, **long}).json()
    assert job["state"] in ("queued", "running")
    assert client.post(f"/api/v1/jobs/{job['id']}/cancel").status_code < 400


def test_labelled_neurons_are_turned_by_their_label(client: TestClient) -> None:
    """Whatever the tiny model's labels are, the names are those of the table, or it is said that there is none."""
    named = [
        row["neuron"] for row in client.get(f"{URL}/neurons", params={"layer": 1, "label": "entropy"}).json()["rows"]
    ]
    answer = client.post(f"{URL}/dial?store=true", json={**BODY, "dials": ["entropy:scale=0"], "twins": False})
    if named:
        assert sorted(answer.json()["arms"][1]["neurons"]) == sorted(named)
    else:
        assert answer.status_code == 422
        assert "labelled" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"dials": []},
        {"dials": ["1.3:scale=9"]},
        {"dials": ["1.3,1.3:scale=2"]},
        {"dials": ["1.3:zero"]},
        {"dials": ["1.3:scale=2"] * 5},
        {"dials": ["9.3:scale=2"]},
        {"seeds": 2, "temperature": 0},
        {"token_ids": tiny.token_ids(tiny.N_CTX)},
    ],
)
def test_what_cannot_be_asked_is_refused(client: TestClient, wrong: dict) -> None:
    response = client.post(f"{URL}/dial?store=true", json={**BODY, **wrong})
    assert response.status_code in (404, 422)
    assert response.json()["error"]["message"]
