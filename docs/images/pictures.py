"""Takes the README's pictures from a running server: python docs/images/pictures.py [http://127.0.0.1:8000]."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
SHOTS = (
    ("prompt-light.png", "light", "/?example=entropy-neuron", None),
    ("prompt-dark.png", "dark", "/", '#strip .tok[data-i="21"]'),
)


def take(page: Page, address: str, hover: str | None, file: Path) -> None:
    page.goto(address)
    page.wait_for_selector("[data-drawn]")
    page.evaluate("document.fonts.ready")
    if hover:
        page.hover(hover)
        page.wait_for_selector("#tip:not([hidden])")
    page.screenshot(path=file, clip={"x": 0, "y": 0, "width": 1400, "height": 1180})


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, scheme, path, hover in SHOTS:
            context = browser.new_context(viewport={"width": 1400, "height": 1180}, color_scheme=scheme)  # type: ignore[arg-type]
            take(context.new_page(), base + path, hover, HERE / name)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
