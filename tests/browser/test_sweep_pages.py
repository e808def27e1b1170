"""The sweep pages as a person uses them: estimate, start, watch it finish, open a neuron from a figure."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def test_start_a_sweep_watch_it_and_read_it(open_page: Open) -> None:
    page = open_page("/sweeps")
    page.fill("[name=rows]", "2")
    page.fill("[name=length]", "24")
    page.fill("[name=neurons]", "3.1, 3.2, 3.3, 3.4")
    page.fill("[name=baseline]", "zero")
    page.get_by_role("button", name="Estimate time and memory").click()
    expect(page.locator("#estimate")).to_contain_text("Memory beside the model")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url(re.compile(r"/sweeps/[0-9a-f]{12}$"))
    expect(page.locator("#progress")).to_contain_text("Finished")
    page.get_by_role("link", name="Show the finished result").click()
    expect(page.locator("#neurons tbody tr")).to_have_count(4)
    page.wait_for_selector('[data-chart="overview"] [data-drawn]')
    page.get_by_role("link", name="ΔH", exact=True).click()
    expect(page.locator("#neurons th[aria-sort]")).to_contain_text("ΔH")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url(re.compile(r"/sweeps$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bundled_sweep_draws_its_figures(open_page: Open, scheme: str) -> None:
    page = open_page("/sweeps/bundled-demo/figures", color_scheme=scheme)
    if page.get_by_text("There is no sweep").count():
        pytest.skip("models/demo has no sweep yet")
    for name in ("1", "2a", "2c", "2d", "7"):
        page.wait_for_selector(f'[data-chart="figure-{name}"] [data-drawn]')


def test_on_a_phone_nothing_is_wider_than_the_screen(open_page: Open) -> None:
    page = open_page("/sweeps", viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
