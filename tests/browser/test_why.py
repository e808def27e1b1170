"""The Why page as a person uses it: a token is clicked, and the page says why the model is unsure there."""

from collections.abc import Callable

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect  # noqa: E402

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width", "height", "scheme"), [(1400, 900, "light"), (390, 844, "dark")])
def test_a_click_on_a_token_explains_it(open_page: Callable[..., Page], width: int, height: int, scheme: str) -> None:
    page = open_page("/why", viewport={"width": width, "height": height}, color_scheme=scheme)
    expect(page.locator('[data-chart="why"] [data-drawn="true"]')).to_be_visible()
    token = page.locator(".strip.picks .tok").nth(3)
    before = page.locator(".answer").inner_text()
    token.click()
    expect(page.locator('.strip.picks .tok[aria-pressed="true"]')).to_have_text(token.inner_text())
    expect(page.locator(".answer")).not_to_have_text(before)
    expect(page.locator("#why-title")).to_contain_text(token.inner_text())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
