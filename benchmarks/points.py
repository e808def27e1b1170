"""How fluid the map is with 50,000 neurons, in Chromium against a running server: `python -m benchmarks.points URL`."""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import sync_playwright

from benchmarks.measure import finish, table
from tests.browser.conftest import FLAGS
from tests.browser.test_atlas import MANY_POINTS, big_map, drawn

COUNTS = (5_001, 36_864, 50_000)


def main() -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{sys.argv[1]}/atlas")
        drawn(page)
        found = [page.evaluate(MANY_POINTS, big_map(n)) for n in COUNTS]
        browser.close()
    rows = [[one["points"], one["drawn"], one["frame"]] for one in found]
    table("The map in Chromium without a graphics card", ["neurons", "drawn after, ms", "a step of panning, ms"], rows)
    finish("points", {"maps": found})


if __name__ == "__main__":
    main()
