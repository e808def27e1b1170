"""A full disk at every door that writes: a clear 507, nothing half written, and it works once there is room."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from app.core.errors import failure_of
from tests.app.served import until
from tests.app.test_sweep_api import SMALL, data_dir, finished, started
from tests.full_disk import fill

TEXT = b"A text that is long enough for a row or two of it."
HTML = {"HX-Request": "true", "HX-Target": "div#upload-error"}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_upload_is_answered_507_and_leaves_nothing(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    with monkeypatch.context() as patch:
        fill(patch)
        told = client.post("/api/v1/corpora", params={"name": "a.txt"}, content=TEXT)
        page = client.post("/sweeps/text", files={"file": ("a.txt", TEXT)}, headers=HTML)
    assert (told.status_code, told.json()["error"]["code"]) == (507, "disk_full")
    assert "The disk is full" in told.json()["error"]["message"]
    assert "make room" in told.json()["error"]["hint"]
    assert page.status_code == 507
    assert "The disk is full" in page.text
    assert files(data_dir(client) / "corpora") == []
    assert client.post("/api/v1/corpora", params={"name": "a.txt"}, content=TEXT).status_code == 201


def test_the_note_of_an_upload_that_does_not_fit_takes_the_text_with_it(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for the text, not for what is written after it."""
    client, real, calls = make_client(), os.fsync, iter(range(100))

    def full_after_the_first_file(descriptor: int) -> None:
        if next(calls) >= 2:  # a file and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_after_the_first_file)
    assert client.post("/api/v1/corpora", params={"name": "a.txt"}, content=TEXT).status_code == 507
    assert files(data_dir(client) / "corpora") == []


def test_a_form_that_does_not_fit_into_the_temporary_folder_is_507(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files larger than a megabyte wait there while they are received."""

    class Full:
        def __init__(self, *given: object, **more: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Full)
    answer = client.post("/sweeps/text", files={"file": ("a.txt", TEXT)}, headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")


def test_a_sweep_stops_with_a_reason_and_goes_on_once_there_is_room(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    whole = finished(client, started(client, **SMALL))
    with monkeypatch.context() as patch:
        fill(patch)
        sweep_id = started(client, **SMALL)
        until(lambda: client.get(f"/api/v1/jobs/{sweep_id}").json()["state"] not in ("queued", "running"))
    job = client.get(f"/api/v1/jobs/{sweep_id}").json()
    assert job["state"] == "failed"
    assert job["message"].startswith("The disk is full")
    assert files(data_dir(client) / "sweeps" / sweep_id) == []
    client.post(f"/api/v1/sweeps/{sweep_id}/resume")
    assert finished(client, sweep_id)["rows"] == whole["rows"]


def test_heads_taken_out_as_a_job_leave_no_half_result(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client()
    body = {"heads": ["0.1"], "neurons": ["1.3"], "kind": "random", "rows": 1, "length": 8}
    with monkeypatch.context() as patch:
        fill(patch)
        job = client.post("/api/v1/models/tiny-gpt2/induction/ablation/jobs", json=body).json()
        until(lambda: client.get(f"/api/v1/jobs/{job['id']}").json()["state"] not in ("queued", "running"))
    told = client.get(f"/api/v1/jobs/{job['id']}").json()
    assert (told["state"], told["message"][:16]) == ("failed", "The disk is full")
    assert files(data_dir(client) / "answers") == []


def test_what_is_only_kept_for_speed_holds_nothing_up(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is shown, and computed again at the next start."""
    client = make_client()
    fill(monkeypatch)
    assert client.get("/api/v1/models/tiny-gpt2/neurons").status_code == 200
    kept: list[Any] = [name for name in files(data_dir(client)) if name.endswith((".safetensors", ".tmp"))]
    assert [name for name in kept if name.startswith("atlas")] == []


def test_wherever_else_the_disk_is_full_it_is_507_too() -> None:
    failure = failure_of(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert (failure.status, failure.code) == (507, "disk_full")
    assert failure_of(OSError(errno.EACCES, os.strerror(errno.EACCES))).status == 500


def test_in_the_shell_it_is_one_sentence(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"NULLSCOPE_DATA_DIR": str(tmp_path / "data")}
    target = tmp_path / "table.csv"
    fill(monkeypatch)
    words = ["neurons", "--model", str(model_folder), "--out", str(target)]
    ran = CliRunner().invoke(main, words, env=environment)
    assert ran.exit_code == 2
    assert "The disk is full: table.csv could not be written" in ran.output
    assert not list(tmp_path.glob("*table*"))
