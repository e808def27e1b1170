"""A question's answer as a durable job: every question that may be one, and what becomes of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from analysis.types import NotFoundError
from app.core.answer_jobs import FORMER, AnswerJobs
from app.core.errors import ConflictError
from app.core.expiry import DAY
from app.core.jobs import FINAL
from app.registry import QUESTIONS
from tests.app.test_jobs import until

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
