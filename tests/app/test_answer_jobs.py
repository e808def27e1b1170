"""A question's answer as a durable job: every question that may be one, and what becomes of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby, pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient

from analysis.types import NotFoundError
from app.core.answer_jobs import FORMER, AnswerJobs
from app.core.errors import ConflictError
from app.core.expiry import DAY
from app.core.jobs import FINAL
from app.registry import QUESTIONS
from tests.app.served import until

M = "/api/v1/models/tiny-gpt2"
BODY = {"heads": ["0.1"], "neurons": ["1.3"], "kind": "random", "rows": 1, "length": 8, "random": 1}
HEADS = QUESTIONS["head_ablation"]


@pytest.fixture
def done(make_client: Callable[..., TestClient]) -> tuple[TestClient, str]:
    client = make_client(result_days=10)
    job = client.post(f"{M}/induction/ablation/jobs", json=BODY).json()["id"]
    until(lambda: client.get(f"/api/v1/jobs/{job}").json()["state"] in FINAL)
    assert client.get(f"/api/v1/jobs/{job}").json()["state"] == "finished", client.get(f"/api/v1/jobs/{job}").json()
    return client, job


def jobs_of(client: TestClient) -> AnswerJobs:
    found: Any = client.app.state.answer_jobs  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("name", [name for name, question in QUESTIONS.items() if question.job])
def test_a_question_that_can_be_a_job_has_no_need_of_the_atlas_and_comes_in_steps(name: str) -> None:
    question = QUESTIONS[name]
    assert question.atlas == "no" or question.settled is not None
    assert question.steps or question.lines
    assert question.path is not None
    assert question.method == "POST"
    assert not question.path_names


TEXT = {"text": "The cat sat"}
MANY = {"text": "The cat sat on the mat. " * 400}
TOO_FAR = {"text": "cat " * 200}  # few characters, more tokens than the model reads
DIALS = {"max_new_tokens": 2, "dials": ["1.3:scale=2"]}
REFUSED: dict[str, list[dict[str, Any]]] = {
    "why": [MANY, TOO_FAR, TEXT | {"position": 400}, TEXT | {"target": {"token_id": 90_000}}, {"token_ids": [90_000]}],
    "why_text": [MANY, TOO_FAR, TEXT | {"target": {"token_id": 90_000}}],
    "circuit": [
        TEXT | {"component": "1.90000"},
        TEXT | {"component": "L9H9", "of": "entropy"},
        TEXT | {"component": "L0H9", "of": "loss"},
        TEXT | {"component": "1.3", "position": 400},
        MANY | {"component": "1.3"},
        TOO_FAR | {"component": "1.3"},
    ],
    "dial": [MANY | DIALS, TOO_FAR | DIALS, TEXT | DIALS | {"dials": ["1.90000:scale=2"]}],
    "head_ablation": [BODY | {"rows": 5000}, BODY | {"neurons": ["1.90000"]}, BODY | {"heads": ["9.9"]}],
}


def test_every_question_that_can_be_a_job_is_asked_what_it_refuses() -> None:
    assert REFUSED.keys() == {name for name, question in QUESTIONS.items() if question.job}


@pytest.mark.parametrize(("name", "body"), [(name, body) for name, bodies in REFUSED.items() for body in bodies])
def test_what_is_refused_is_never_queued(
    name: str, body: dict[str, Any], client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{M}/{QUESTIONS[name].path}"
    at_once = client.post(path, json=body)
    assert at_once.status_code in (404, 422), at_once.text
    monkeypatch.setattr(AnswerJobs, "submit", lambda *_, **__: pytest.fail("it was queued"))
    as_job = client.post(f"{path}/jobs", json=body)
    told = [answer.json()["error"] for answer in (at_once, as_job)]
    assert (as_job.status_code, told[1]["message"], told[1]["hint"]) == (
        at_once.status_code,
        told[0]["message"],
        told[0]["hint"],
    )


def test_what_holds_is_queued_without_a_forward_pass(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    host = client.app.state.host  # type: ignore[attr-defined]
    model = host.entry("tiny-gpt2").replicas[0][1].model

    def reached(*_: Any, **__: Any) -> None:
        raise ConflictError("It would be queued now.")

    monkeypatch.setattr(AnswerJobs, "submit", reached)
    before = model.passes
    for name, body in {"dial": TEXT | DIALS, "why": TEXT, "head_ablation": BODY}.items():
        assert client.post(f"{M}/{QUESTIONS[name].path}/jobs", json=body).status_code == 409
    assert model.passes == before


def test_a_job_is_asked_for_where_its_question_is(done: tuple[TestClient, str]) -> None:
    client, job = done
    with pytest.raises(ConflictError, match="is no heads"):
        jobs_of(client).view(QUESTIONS["heads"], job)
    with pytest.raises(NotFoundError):
        jobs_of(client).view(HEADS, "nope")
    assert jobs_of(client).page_state(HEADS, job) == {}


def test_results_of_before_are_found_where_they_were(done: tuple[TestClient, str]) -> None:
    client, job = done
    folder = client.app.state.settings.data_dir  # type: ignore[attr-defined]
    whole = client.get(f"{M}/induction/ablation/jobs/{job}").json()
    (folder / FORMER).mkdir()
    (folder / "answers" / f"{job}.json").rename(folder / FORMER / f"{job}.json")
    assert client.get(f"{M}/induction/ablation/jobs/{job}").json() == whole


def test_a_result_goes_when_it_is_too_old_and_with_it_its_job(done: tuple[TestClient, str]) -> None:
    client, job = done
    now = time.time()  # what the job's row was written by
    jobs_of(client).expire(now + 9 * DAY)
    assert client.get(f"{M}/induction/ablation/jobs/{job}").status_code == 200
    jobs_of(client).expire(now + 11 * DAY)
    assert client.get(f"{M}/induction/ablation/jobs/{job}").status_code == 404
    assert list((client.app.state.settings.data_dir / "answers").iterdir()) == []  # type: ignore[attr-defined]


def test_a_result_that_is_gone_from_the_disk_is_told(done: tuple[TestClient, str]) -> None:
    client, job = done
    (client.app.state.settings.data_dir / "answers" / f"{job}.json").unlink()  # type: ignore[attr-defined]
    answer = client.get(f"{M}/induction/ablation/jobs/{job}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_result")


STEPPED: dict[str, dict[str, Any]] = {
    "why": TEXT | {"ablate": True},
    "why_text": TEXT,
    "circuit": TEXT | {"component": "1.3", "check": True},
    "dial": TEXT | DIALS,
    "head_ablation": BODY,
}


def test_every_question_that_can_be_a_job_is_followed_to_its_end() -> None:
    assert STEPPED.keys() == REFUSED.keys()


@pytest.mark.parametrize("name", STEPPED)
def test_how_far_a_job_is_never_falls_back_within_a_stage(name: str, client: TestClient) -> None:
    """Neither to a smaller number nor to none, and no stage comes again."""
    question = QUESTIONS[name]
    steps = list(jobs_of(client)._steps(question, f"{name}-steps", "tiny-gpt2", {"request": STEPPED[name]}))
    told = [step for step in steps if not step.idle]
    for before, now in pairwise(told):
        if now.stage == before.stage:
            assert (now.total, now.done >= before.done) == (before.total, True), (before, now)
        else:
            assert before.done == before.total, (before, now)
    stages = [stage for stage, _ in groupby(step.stage for step in told)]
    assert len(stages) == len(set(stages)), stages
