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
