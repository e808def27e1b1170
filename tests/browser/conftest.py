"""A real server process with the bundled model on a free port, and Chromium without a network beyond it.

Skipped visibly where there is no Chromium. Nothing sleeps: waits are for what a person would see.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from tests.app.served import PATIENCE  # noqa: E402

# How long a test waits before it calls a thing absent; on a busy machine a page may take seconds.
expect.set_options(timeout=1000 * PATIENCE)

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `nullscope serve`; its log is shown where it does not come up."""
    folder = tmp_path_factory.mktemp("server")
    log = folder / "log"
    environment = os.environ | {"NULLSCOPE_DATA_DIR": str(folder), "NULLSCOPE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.browser.serve", str(folder / "port")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield _ready(process, folder / "port", log)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _ready(process: subprocess.Popen[bytes], port: Path, log: Path) -> str:
    """Once the model and its reference means are there."""
    while process.poll() is None:
        if port.is_file() and (number := port.read_text()):
            address = f"http://127.0.0.1:{number}"
            try:
                rows = httpx.get(f"{address}/api/v1/models", timeout=PATIENCE).json()["models"]
                if rows[0]["loaded"] and rows[0]["mean"] == "ready":
                    return address
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    pytest.fail(f"The server did not come up:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="package")  # playwright keeps an event loop running in this thread: it must end with these tests
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


class Watched:
    """A page, and what went wrong in it: console errors, script errors, requests that left the server."""

    def __init__(self, page: Page, server: str) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._request(request.url, server))

    def _console(self, kind: str, text: str) -> None:
        # Chromium reports every refused request; a test that provokes one looks at the message on the page.
        # WebGL without a graphics card (the scatter charts) warns of its own slowness.
        if (
            kind in ("error", "warning")
            and not re.search("status of 4(09|22)", text)
            and "GL Driver Message" not in text
        ):
            self.problems.append(f"{kind}: {text}")

    def _request(self, url: str, server: str) -> None:
        if not url.startswith((server, "data:", "blob:")):
            self.problems.append(f"outside request: {url}")


@pytest.fixture
def open_page(browser: Browser, server: str) -> Iterator[object]:
    """`open_page(path, **context options)`; at the end of the test nothing may have gone wrong in any page.

    before: a script that runs in the page before its own.
    """
    opened: list[Watched] = []

    def go(path: str = "/", *, before: str = "", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        if before:
            context.add_init_script(before)
        context.set_default_timeout(1000 * PATIENCE)
        watched = Watched(context.new_page(), server)
        opened.append(watched)
        watched.page.goto(server + path)
        return watched.page

    yield go
    problems = [problem for watched in opened for problem in watched.problems]
    for watched in opened:
        watched.page.context.close()
    assert problems == []
