"""A finished sweep whose files are damaged: a sentence and the right status at every door, never a 500."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.app.test_sweep_api import finished, started
from tests.app.words import foreign

DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "overwritten": lambda content: b"\xff" * len(content),
    "gone": lambda content: None,
}
READS = ("", "/figures/1", "/figures/2a", "/neurons/1.3", "/calibration?rows=2&controls=1&top=2")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_sweep_is_said_to_be(make_client: Callable[..., TestClient], tmp_path: Path, damage: str) -> None:
    client = make_client()
    name = started(client)
    finished(client, name)
    folder: Path = client.app.state.sweeps.folder(name).path  # type: ignore[attr-defined]
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {"manifest.json", "tokens.i32"} <= {path.name for path in files}
    refused = []
    for file in files:
        shutil.copytree(whole, folder, dirs_exist_ok=True)  # what is found to be damaged is taken away, too
        left = DAMAGE[damage](file.read_bytes())
        if left is None:
            file.unlink()
        else:
            file.write_bytes(left)
        for read in READS:
            for path in (f"/api/v1/sweeps/{name}{read}", f"/sweeps/{name}{read}"):
                answer = client.get(path, headers={"accept": "application/json" if "api" in path else "text/html"})
                refused.append(answer.status_code >= 400)
                assert answer.status_code < 500 or answer.status_code == 503, (file.name, path, answer.text[-300:])
                if path.startswith("/api") and answer.status_code >= 400:
                    message = answer.json()["error"]["message"]
                    assert message.endswith("."), (file.name, path, message)
                    assert foreign(message) == [], (file.name, path)
                    assert str(folder) not in message, (file.name, path)
        for page in ("/sweeps", "/atlas", "/api/v1/sweeps"):
            assert client.get(page).status_code < 500, (file.name, page)
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    assert any(refused)
    assert client.get(f"/api/v1/sweeps/{name}").status_code == 200
