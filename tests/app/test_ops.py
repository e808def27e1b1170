"""Operation: metrics, readiness, path prefix, doctor, users, backup; nothing private in a log."""

import html
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from app.core.settings import Settings
from app.main import create_app
from app.operate.logs import JsonLines

SECRET_TEXT = "a very private prompt"


def test_metrics_count_what_was_done(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    client.post("/api/v1/models/tiny-gpt2/trace", json={"text": SECRET_TEXT})
    text = client.get("/metrics").text
    assert 'nullscope_runs_total{device="cpu",kind="trace",outcome="ok"} 1.0' in text
    for name in ("queue_depth", "out_of_memory_total", "models_bytes", "device_free_bytes", "process_bytes"):
        assert f"nullscope_{name}" in text
    for name in ("run", "wait"):  # histograms: every bucket counts what the ones before it count
        assert f'nullscope_{name}_seconds_bucket{{device="cpu",kind="trace",le="+Inf"}} 1.0' in text
        assert f'nullscope_{name}_seconds_count{{device="cpu",kind="trace"}} 1.0' in text
    assert 'nullscope_loads_total{outcome="ok"} 1.0' in text
    assert 'nullscope_cache_hits_total{cache="in_flight"} 0.0' in text
    assert 'nullscope_requests_total{role="admin",status="200"}' in text
    assert "private" not in text


def test_ready_means_the_database_answers_too(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    assert client.get("/readyz").status_code == 200
    client.app.state.database.answers = lambda: False  # type: ignore[attr-defined]
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["waiting_for"]) == (503, ["database"])


@pytest.mark.parametrize("strips", [True, False])
def test_it_works_under_a_path_prefix(make_settings: Callable[..., Settings], strips: bool) -> None:
    """Behind a proxy that serves it under a prefix, whether that takes the prefix away or not."""
    prefix = "/user/x/proxy/8000"
    with TestClient(create_app(make_settings(root_path=prefix))) as client:
        client.app.state.host.wait("tiny-gpt2")  # type: ignore[attr-defined]
        client.app.state.host.entry("tiny-gpt2").means_settled.wait()  # type: ignore[attr-defined]
        at, found = "" if strips else prefix, set()
        for path in ("/", "/lab", "/models", "/atlas", "/selfcheck", "/jobs", "/sweeps", "/induction"):
            page = client.post(at + path, data={"text": "x"}) if path == "/" else client.get(at + path)
            assert page.status_code == 200, path
            found |= set(re.findall(r'(href|src|action|hx-get|hx-post|data-plotly-src)="(/[^"]*)"', page.text))
        assert [link for _, link in found if not link.startswith(prefix + "/")] == []
        followed = {html.unescape(link).partition("#")[0] for kind, link in found if kind not in ("action", "hx-post")}
        assert len(followed) > 20
        for link in sorted(followed):  # every asset and every link leads somewhere
            answer = client.get(at + link.removeprefix(prefix))
            # The worked examples are the bundled model's, too long for this one.
            too_long = any(said in answer.text for said in ("limit_tokens", "copies of it do not fit"))
            assert answer.status_code == 200 or too_long, link
        answer = client.post(f"{at}/api/v1/models/tiny-gpt2/trace?store=true", json={"text": "x"}).json()
        assert answer["permalink"].startswith(prefix + "/r/")
        assert client.get(at + answer["permalink"].removeprefix(prefix)).status_code == 200
        moved = client.post(f"{at}/share", data={"text": "x"}, follow_redirects=False)
        assert moved.headers["location"].startswith(prefix + "/r/")


def test_no_log_holds_a_prompt_or_a_note(
    make_client: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client()
    for body in ({"text": SECRET_TEXT}, {"text": SECRET_TEXT, "interventions": [{"neuron": "9.9", "mode": "zero"}]}):
        client.post("/api/v1/models/tiny-gpt2/trace", json=body)
    client.post("/", data={"text": SECRET_TEXT, "pos": "99999"})
    client.post("/share", data={"text": SECRET_TEXT})
    client.post("/api/v1/notes", json={"target": "neuron:m/1.1", "text": SECRET_TEXT})
    client.post("/login", data={"key": SECRET_TEXT})
    ours = [r for r in caplog.records if r.name.startswith(("app", "sqlalchemy", "alembic", "uvicorn"))]
    assert SECRET_TEXT not in " ".join(record.getMessage() for record in ours)


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("app.x", logging.INFO, "", 0, "a\nb %s", ("c",), None)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "a\nb c"


def command(*arguments: str, data: Path) -> tuple[int, str]:
    found = CliRunner().invoke(main, list(arguments), env={"NULLSCOPE_DATA_DIR": str(data)})
    return found.exit_code, found.output


def test_users_are_added_listed_and_revoked(tmp_path: Path) -> None:
    code, printed = command("users", "add", "ada", "--role", "admin", data=tmp_path)
    assert (code, printed.startswith("ns_")) == (0, True)
    assert command("users", "add", "ada", data=tmp_path)[0] == 2
    assert "ada   admin" in command("users", "list", data=tmp_path)[1]
    assert command("users", "revoke", "ada", data=tmp_path)[0] == 0
    assert "ada" not in command("users", "list", data=tmp_path)[1]


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    assert command("doctor", data=tmp_path)[0] == 0
    (tmp_path / "nullscope.sqlite").write_bytes(b"nonsense" * 1000)
    code, printed = command("doctor", data=tmp_path)
    assert code == 1
    assert "not a database" in printed
    assert "nullscope restore" in printed


def test_doctor_finds_a_model_that_does_not_fit_or_is_not_whole(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULLSCOPE_MODELS", json.dumps([str(model_folder)]))
    assert command("doctor", data=tmp_path)[0] == 0
    monkeypatch.setenv("NULLSCOPE_MEMORY_BYTES", "1000")
    code, printed = command("doctor", data=tmp_path)
    assert (code, "needs" in printed) == (1, True)
    monkeypatch.delenv("NULLSCOPE_MEMORY_BYTES")
    shutil.copytree(model_folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.setenv("NULLSCOPE_MODELS", json.dumps([str(tmp_path / "cut")]))
    code, printed = command("doctor", data=tmp_path)
    assert (code, "Copy the folder again" in printed) == (1, True)


def test_backup_and_restore_from_the_shell(tmp_path: Path) -> None:
    from app.core.store import Database

    data, file = tmp_path / "data", tmp_path / "b.sqlite"
    assert command("backup", str(file), data=data)[0] == 2  # there is nothing yet
    database = Database.of(Settings(data_dir=data))
    database.open()
    database.close()
    assert command("backup", str(file), data=data)[0] == 0
    assert command("restore", str(file), data=data)[0] == 2  # it would replace something
    assert command("restore", str(file), "--yes", data=data)[0] == 0
    odd = tmp_path / "100% of it?.sqlite"
    file.rename(odd)
    assert command("restore", str(odd), "--yes", data=data)[0] == 0
