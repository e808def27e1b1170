"""From `/` to the three things that a newcomer comes for: clicks, keys and seconds, in a real browser.

    python -m benchmarks.first_minutes http://127.0.0.1:8000

Asks a server that runs already. Seconds are the machine's: from the first action until the answer can be read, a
person's own reading and typing aside (a text counts as one paste). Chromium must be there, and Playwright.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.measure import finish, table

TEXT = "The captain of the little ship had never seen such a storm, and he was not afraid of the"
TOKEN = 7
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
PATIENCE = 120_000.0  # ms


@dataclass
class Walk:
    """One way through the pages, counted as it is gone."""

    page: Page
    clicks: int = 0
    keys: int = 0
    pastes: int = 0
    began: float = field(default_factory=time.monotonic)

    def click(self, selector: str) -> None:
        self.clicks += 1
        self.page.locator(selector).first.click()

    def press(self, keys: str) -> None:
        self.keys += 1
        self.page.keyboard.press(keys)

    def paste(self, selector: str, text: str) -> None:
        self.pastes += 1
        self.page.fill(selector, text)

    def row(self, goal: str) -> list[object]:
        return [goal, self.clicks, self.keys, self.pastes, time.monotonic() - self.began]


def own_text(walk: Walk) -> None:
    """Which neurons change the entropy at this token of my text?"""
    walk.paste("#text", TEXT)
    walk.press("Control+Enter")
    expect(walk.page.locator("#strip")).to_contain_text("storm")
    walk.click(f'#strip .tok[data-i="{TOKEN}"]')
    expect(walk.page.locator("#neurons-title")).to_contain_text(f"position {TOKEN}")
    expect(walk.page.locator("#says")).to_contain_text("entropy")
    expect(walk.page.locator("#neurons tbody tr[data-neuron]").first).to_be_visible()


def entropy_neuron(walk: Walk) -> None:
    """An entropy neuron with its evidence: the fourth step of the story names one."""
    walk.click('[aria-label="Open step 4"]')
    walk.page.wait_for_url(re.compile(r"/(atlas|n)/\d+\.\d+"))
    expect(walk.page.locator("#labels")).to_contain_text("entropy")
    expect(walk.page.locator("#sample .context").first).to_be_visible()


def colleague(walk: Walk, browser: Browser) -> None:
    """A colleague has it: the page of one's own text, shared, opened by a browser that never was here."""
    own_text(walk)
    walk.press("Escape")
    walk.click("[data-share]")
    walk.page.wait_for_url(re.compile(r"/r/[0-9a-f]{64}"))
    other = browser.new_context().new_page()
    other.goto(walk.page.url)
    expect(other.locator("#strip")).to_contain_text("storm")


def main() -> None:
    address = sys.argv[1].rstrip("/")
    expect.set_options(timeout=PATIENCE)
    goals: dict[str, Callable[[Walk, Browser], None]] = {
        "which neurons change entropy at this token of my text": lambda walk, _: own_text(walk),
        "an entropy neuron with its evidence": lambda walk, _: entropy_neuron(walk),
        "a colleague has it": colleague,
    }
    rows: list[list[object]] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        for goal, go in goals.items():
            page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(address + "/")
            walk = Walk(page)
            go(walk, browser)
            rows.append(walk.row(goal))
        browser.close()
    table("The first minutes", ["from / to", "clicks", "keys", "pastes", "seconds"], rows)
    finish("first_minutes", {"rows": rows})


if __name__ == "__main__":
    main()
