"""One server a data folder, commands beside it, a restore beside nobody."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from analysis.types import InputError
from app.core.errors import ConflictError
from app.core.locks import HOLDS, SERVER, DataFolder, Use
from app.core.settings import Settings
from app.main import create_app
from tests.app.test_ops import command as run

NOTE = {"target": "neuron:m/1.1", "text": "acknowledged"}


def command(*arguments: str, data: Path) -> tuple[int, str]:
    """Exit code, and what was printed in one line."""
    code, printed = run(*arguments, data=data)
    return code, " ".join(printed.split())


@pytest.mark.parametrize("run_jobs", [True, False], ids=["jobs", "no jobs"])
def test_a_restore_beside_a_server_is_refused_and_loses_nothing(
    make_settings: Callable[..., Settings], tmp_path: Path, run_jobs: bool
) -> None:
    settings, file = make_settings(run_jobs=run_jobs), tmp_path / "b.sqlite"
    with TestClient(create_app(settings)) as client:
        assert command("backup", str(file), data=settings.data_dir)[0] == 0  # a server may go on meanwhile
        note = client.post("/api/v1/notes", json=NOTE).json()["id"]
        code, printed = command("restore", str(file), "--yes", data=settings.data_dir)
        assert code == 2
        assert f"process {os.getpid()} on {socket.gethostname()}" in printed
        assert "Stop it first" in printed
        assert [row["id"] for row in client.get("/api/v1/notes").json()["rows"]] == [note]
    assert command("restore", str(file), "--yes", data=settings.data_dir)[0] == 0
    with TestClient(create_app(settings)) as client:
        assert client.get("/api/v1/notes").json()["rows"] == []


@pytest.mark.parametrize("elsewhere", [False, True], ids=["its database", "a database elsewhere"])
def test_a_second_server_on_a_data_folder_is_refused(
    make_settings: Callable[..., Settings], tmp_path: Path, elsewhere: bool
) -> None:
    """Whatever the database is: sweeps, means and keys are files of the folder."""
    more = {"database_url": f"sqlite:///{tmp_path}/{{}}.sqlite"} if elsewhere else {}
    one, other = (make_settings(**{k: v.format(n) for k, v in more.items()}, run_jobs=False) for n in "ab")
    second = create_app(other)
    with TestClient(create_app(one)) as client:
        with pytest.raises(ConflictError, match=f"process {os.getpid()} on ") as refused, TestClient(second):
            pass
        assert refused.value.code == "data_folder_in_use"
        assert client.get("/healthz").status_code == 200
    with TestClient(second) as client:  # once the first is gone
        assert client.get("/healthz").status_code == 200


def test_serve_says_in_one_sentence_who_has_the_folder(tmp_path: Path) -> None:
    with DataFolder(tmp_path).held("server"):
        code, printed = command("serve", "--port", "0", data=tmp_path)
    assert code == 2
    assert f"A server works with {tmp_path}: process {os.getpid()} on {socket.gethostname()}." in printed
    assert "--data-dir" in printed
    assert not (tmp_path / "nullscope.sqlite").exists()  # nothing was touched


BESIDE: dict[tuple[Use, Use], bool] = {
    ("server", "server"): False,
    ("server", "command"): True,
    ("server", "restore"): False,
    ("command", "server"): True,
    ("command", "command"): True,
    ("command", "restore"): False,
    ("restore", "server"): False,
    ("restore", "command"): False,
    ("restore", "restore"): False,
}


@pytest.mark.parametrize(("first", "second"), BESIDE)
def test_who_may_work_beside_whom(tmp_path: Path, first: Use, second: Use) -> None:
    assert {use for pair in BESIDE for use in pair} == HOLDS.keys()
    one, other = DataFolder(tmp_path), DataFolder(tmp_path)
    with one.held(first):
        if BESIDE[first, second]:
            with other.held(second):
                pass
        else:
            with pytest.raises(ConflictError, match=f"A {first} works with"):
                other.hold(second)
    with other.held(second):  # a refusal leaves nothing locked, and neither does the end of a use
        pass


def test_a_lock_file_of_somebody_else_names_nobody(tmp_path: Path) -> None:
    """An older version writes nothing into it; what was left there is not what holds it now."""
    folder = DataFolder(tmp_path)
    for text in ("", "[1]", '{"pid": 1', "\0"):
        with folder.held("server"):
            (tmp_path / SERVER).write_text(text)
            with pytest.raises(ConflictError) as refused:
                DataFolder(tmp_path).hold("server")
            assert refused.value.message == f"A server works with {tmp_path}."
    with folder.held("server"):
        assert json.loads((tmp_path / SERVER).read_text())["pid"] == os.getpid()


def test_a_killed_server_holds_nothing(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from app.core.locks import DataFolder
folder = DataFolder(Path({str(tmp_path)!r}))
folder.hold("server")
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConflictError, match=f"process {process.pid} on"):
            DataFolder(tmp_path).hold("server")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with DataFolder(tmp_path).held("restore"):
        pass


def test_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers could not be told apart there."""

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(InputError, match="cannot be locked: No locks available"):
        DataFolder(tmp_path).hold("server")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be locked"):
        DataFolder(tmp_path / "file").hold("command")
