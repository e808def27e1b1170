"""The effects page as a person uses it: a heat map that fills, and a cell that opens what it shows."""

import json
import re
from collections.abc import Callable

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect  # noqa: E402

pytestmark = pytest.mark.browser


def test_a_cell_of_the_heat_map_opens_its_token_and_neuron(open_page: Callable[..., Page], server: str) -> None:
    page = open_page("/effects")
    plot = page.locator('#heatmap [data-drawn="true"]')
    expect(page.get_by_text(re.compile(r"of 768 neurons, \d+ tokens"))).to_be_visible()
    expect(plot).to_be_visible()
    cells = plot.locator(".nsewdrag").bounding_box()
    assert cells is not None
    plot.locator(".nsewdrag").click(position={"x": cells["width"] * 0.505, "y": cells["height"] * 0.51})
    expect(page.locator("#neurons tbody tr")).to_have_count(1)
    # The cell under the pointer, from the figure's own numbers: rows from the top, tokens from the left.
    expect(page).to_have_url(f"{server}/")
    table = page.locator("#neurons tbody tr")
    neuron = table.get_attribute("data-neuron")
    assert neuron is not None
    assert neuron.startswith("3.")
    expect(page.locator(".chip.watch")).to_contain_text(neuron)
    position = int(page.locator('input[name="pos"]').input_value())
    tokens = json.loads(page.locator("#strip-data").text_content() or "")["tokens"]
    assert position == len(tokens) // 2
    expect(page.locator(f'#strip .tok[data-i="{position}"]')).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("token", ["//elsewhere.example/x", "/models"])
def test_a_token_that_looks_like_an_address_is_no_link(open_page: Callable[..., Page], server: str, token: str) -> None:
    """A click on a dose chart, whose points carry the top token as the model wrote it."""
    page = open_page("/effects?panel=dose&neurons=3.9")
    page.wait_for_selector('[data-chart="dose"] [data-drawn="true"]')
    page.evaluate(
        """(token) => {
          const plot = document.querySelector('[data-chart="dose"] [data-drawn="true"]');
          plot.emit("plotly_click", { points: [{ x: 1, y: 1, customdata: token, data: plot.data[0] }] });
        }""",
        token,
    )
    assert page.evaluate("new Promise((done) => setTimeout(() => done(location.pathname), 0))") == "/effects"


def test_a_mark_of_ours_opens_what_it_says_and_no_other_server(open_page: Callable[..., Page], server: str) -> None:
    page = open_page("/effects?panel=dose&neurons=3.9")
    page.wait_for_selector('[data-chart="dose"] [data-drawn="true"]')
    click = """(link) => {
      const plot = document.querySelector('[data-chart="dose"] [data-drawn="true"]');
      plot.emit("plotly_click", { points: [{ x: 1, y: 1, customdata: link, data: { meta: { click: "open" } } }] });
    }"""
    page.evaluate(click, "//elsewhere.example/x")
    assert page.evaluate("new Promise((done) => setTimeout(() => done(location.pathname), 0))") == "/effects"
    page.evaluate(click, "/models")
    page.wait_for_url(f"{server}/models")
