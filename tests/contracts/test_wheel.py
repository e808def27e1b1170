"""A wheel holds all that the program needs: unpacked outside of the checkout it serves the bundled model."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import httpx
import pytest

from tests.app.served import PATIENCE, is_ready, until

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("analysis", "app", "nullscope", "templates", "static", "models", "docs")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that nothing is left in the checkout and nothing of it is found."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
    for name in FILES:
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", out, "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=PATIENCE)
    (built,) = out.glob("nullscope-*.whl")
    return zipfile.ZipFile(built)


def test_it_holds_what_the_checkout_tracks(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    for name in FOLDERS:
        inside = name if name in ("analysis", "app", "nullscope") else f"nullscope/{name}"
        files = [file for file in (ROOT / name).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        missing = {f"{inside}/{file.relative_to(ROOT / name).as_posix()}" for file in files} - held
        assert missing == set()
    assert not any(name.startswith(("tests/", "training/", "benchmarks/")) for name in held)


@pytest.fixture
def address(wheel: zipfile.ZipFile, tmp_path: Path) -> Iterator[str]:
    """Of `python -m nullscope serve` from the unpacked wheel, in an empty folder."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    wheel.extractall(site)
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "NULLSCOPE_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "nullscope", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=empty, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found.group()
                break
        else:
            pytest.fail("".join(said))
        server.terminate()
        server.communicate(timeout=PATIENCE)


def test_the_unpacked_wheel_serves_the_bundled_model(address: str) -> None:
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        until(lambda: client.get("/").status_code != 503)  # the program is imported
        page = client.get("/")
        assert page.status_code == 200
        style = re.search(r'href="(/static/app\.css[^"]*)"', page.text)
        assert style is not None
        assert client.get(style.group(1)).status_code == 200
        body = {"text": "It was the best", "top_k": 1}
        retried = httpx.Client(base_url=address, timeout=PATIENCE)
        until(lambda: is_ready(retried.get("/readyz")))
        answer = retried.post("/api/v1/models/demo/trace", json=body)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["tokens"]) > 3
