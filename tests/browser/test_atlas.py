"""The atlas pages in a real browser: the map opens neurons and makes lists, sliders recompute, fragments arrive."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
Open = Callable[..., Page]

DRAWN = "[...document.querySelectorAll('[data-plotly]')].filter(e => e.offsetParent).every(e => e.dataset.drawn)"


def drawn(page: Page) -> None:
    page.wait_for_function(DRAWN)


def test_a_click_on_the_map_opens_the_neuron(open_page: Open) -> None:
    page = open_page("/atlas")
    drawn(page)
    name = page.evaluate(
        """() => {
          const plot = document.querySelector('[data-chart="map"] [data-plotly]');
          const trace = plot.data.find((t) => t.name === "neurons");
          plot.emit("plotly_click", { points: [{ x: 1, y: 1, customdata: trace.customdata[5] }] });
          return trace.customdata[5];
        }"""
    )
    page.wait_for_url(re.compile(rf"/m/demo/n/{re.escape(name)}$"))
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_lasso_makes_a_table_of_its_neurons(open_page: Open) -> None:
    page = open_page("/atlas")
    drawn(page)
    page.get_by_role("button", name="Lasso").click()
    page.evaluate(
        """() => {
          const plot = document.querySelector('[data-chart="map"] [data-plotly]');
          const names = plot.data.find((t) => t.name === "neurons").customdata.slice(2, 5);
          plot.emit("plotly_selected", { points: names.map((customdata) => ({ customdata })) });
        }"""
    )
    expect(page.locator("#picked")).to_contain_text("3 neurons")
    page.get_by_role("button", name="Show in the table").click()
    page.wait_for_url(re.compile("neurons=3.2%2C3.3%2C3.4"))
    expect(page.locator("#neurons tbody tr")).to_have_count(3)


def test_sorting_and_filtering_swap_the_table_only(open_page: Open) -> None:
    page = open_page("/atlas")
    page.evaluate("window.stillHere = true")
    page.get_by_role("link", name="ρ", exact=True).click()
    page.wait_for_url(re.compile("sort=rho"))
    page.locator("#neurons select[name=label]").select_option("entropy")
    page.wait_for_url(re.compile("label=entropy"))
    expect(page.locator("#neurons tbody tr .tag.on").first).to_contain_text("entropy")
    assert page.evaluate("window.stillHere") is True


def test_the_neuron_page_fills_in_what_takes_longer(open_page: Open) -> None:
    page = open_page("/m/demo/n/3.10")
    expect(page.locator("#live .watch").first).to_be_visible()
    expect(page.locator("#sample .context").first).to_be_visible()
    drawn(page)
    page.get_by_label("Text", exact=True).fill("A quiet sentence about rain.")
    page.get_by_role("button", name="Watch").click()
    expect(page.locator("#live .watch").first).to_contain_text("quiet")
    page.get_by_role("link", name="3.11 →").click()
    page.wait_for_url(re.compile(r"/n/3\.11$"))


def test_the_slider_recomputes_rho(open_page: Open) -> None:
    page = open_page("/nullspace")
    drawn(page)
    before = page.locator("#rho .note").inner_text()
    page.locator("#k").fill("40")
    page.wait_for_url(re.compile("k=40"))
    expect(page.locator("#rho .note")).not_to_have_text(before)
    drawn(page)


def test_walking_another_direction(open_page: Open) -> None:
    page = open_page("/nullspace")
    expect(page.locator("#walk")).to_contain_text("in the null space")
    page.get_by_role("button", name="the largest direction, for contrast").click()
    expect(page.locator("#walk")).to_contain_text("Direction 0")
    expect(page.locator("#walk")).to_contain_text("not in the null space")


@pytest.mark.parametrize("path", ["/atlas", "/m/demo/n/3.10", "/nullspace", "/frequency", "/compare"])
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_every_page_fits_and_draws(open_page: Open, path: str, width: int, scheme: Any) -> None:
    page = open_page(path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
