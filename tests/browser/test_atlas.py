"""The atlas pages in a real browser: the map opens neurons and makes lists, sliders recompute, fragments arrive."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from app.atlas.charts import neuron_map
from app.atlas.view import Points

pytestmark = pytest.mark.browser
Open = Callable[..., Page]

MANY_POINTS = """async (text) => {
  const element = document.querySelector('[data-chart="map"] [data-plotly]');
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  let from = performance.now();
  element._figure = JSON.parse(text);
  await window.plots.draw(element);
  await frame();
  const drawn = performance.now() - from;
  const frames = [];
  for (let step = 1; step <= 10; step++) {
    from = performance.now();
    await window.Plotly.relayout(element, { "xaxis.range": [0.01 * step, 0.3 + 0.01 * step] });
    await frame();
    frames.push(performance.now() - from);
  }
  const trace = element._fullData.find((one) => one.name === "neurons");
  return { points: trace.type === "scattergl" ? trace._length : 0, drawn, frame: frames.sort((a, b) => a - b)[5] };
}"""
"""Draws a figure in place of the map as the page does; milliseconds until it is there, and of a step of panning."""


def big_map(n: int) -> str:
    """The atlas' figure of n made-up neurons."""
    g = np.random.default_rng(0)
    norm, variance, rho = (g.lognormal(0, 0.3, n) for _ in range(3))
    points = Points(
        neuron=[f"3.{i}" for i in range(n)],
        x=norm.tolist(),
        y=variance.tolist(),
        color=rho.tolist(),
        size=None,
        labels={},
        known={},
        control_x=norm[:4096].tolist(),
        control_y=variance[:4096].tolist(),
    )
    view: Any = SimpleNamespace(points=points, state={"x": "norm", "y": "logit_var", "color": "rho"})
    return neuron_map(view).to_json()


def drawn(page: Page) -> None:
    """Every chart in sight is drawn, and there is one: the page may first be the one that waits for the atlas.

    By locators: `wait_for_function` evaluates a string in the page at each poll, which the policy forbids.
    """
    expect(page.locator("[data-plotly][data-drawn]").first).to_be_visible()
    expect(page.locator("[data-plotly]:not([data-drawn]):visible")).to_have_count(0)


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


def test_a_lasso_drawn_by_hand_becomes_a_list_that_is_ablated_as_a_set(open_page: Open) -> None:
    page = open_page("/atlas")
    drawn(page)
    page.get_by_role("button", name="Lasso").click()
    box = page.locator('[data-chart="map"] .nsewdrag').first.bounding_box()
    assert box is not None
    corners = [(0.25, 0.35), (0.75, 0.35), (0.75, 0.95), (0.25, 0.95), (0.25, 0.35)]
    page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
    page.mouse.down()
    for across, down in corners[1:]:
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=8)
    page.mouse.up()
    expect(page.locator("#picked")).to_be_visible()
    count = int(page.locator("#picked [data-count]").inner_text().split()[0])
    assert count > 0
    page.get_by_label("Name of the list").fill("By hand")
    page.get_by_role("button", name="Keep as a list").click()
    page.wait_for_url(re.compile("/lab"))
    expect(page.locator("body")).to_contain_text("By hand")
    page.get_by_role("link", name="Ablate them all on the prompt page").first.click()
    page.wait_for_url(re.compile("do="))


def test_fifty_thousand_points_are_drawn(open_page: Open) -> None:
    page = open_page("/atlas")
    drawn(page)
    assert page.evaluate(MANY_POINTS, big_map(50_000))["points"] == 50_000


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
    expect(page.locator("#live .strip").first).to_be_visible()
    expect(page.locator("#sample .context").first).to_be_visible()
    drawn(page)
    page.get_by_label("Text", exact=True).fill("A quiet sentence about rain.")
    page.get_by_role("button", name="Watch", exact=True).click()
    expect(page.locator("#live .strip").first).to_contain_text("quiet")
    page.get_by_role("link", name="3.11 →").click()
    page.wait_for_url(re.compile(r"/n/3\.11(\?|$)"))


def test_the_neuron_page_watches_the_text_of_the_prompt_page(open_page: Open) -> None:
    page = open_page("/")
    page.fill("#text", "A red kettle stood upon the stove")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#strip")).to_contain_text("stove")
    page.goto(page.url.split("/?")[0].rstrip("/") + "/m/demo/n/3.10")
    expect(page.locator("#live .strip").first).to_contain_text("stove")
    expect(page.locator("#live textarea")).to_have_value("A red kettle stood upon the stove")
    assert "kettle" not in page.url


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


@pytest.mark.parametrize(
    ("path", "panel", "field", "bad", "good"),
    [
        ("/nullspace", "walk", "text", "word " * 801, "The cat sat"),
        ("/frequency", "prompt", "text", "word " * 801, "The cat sat"),
        ("/m/demo/n/3.10", "live", "text", "word " * 801, "The cat sat"),
        ("/atlas", "neurons", "neurons", "no neuron", "3.10"),
    ],
)
def test_a_refusal_keeps_what_was_typed(
    open_page: Open, path: str, panel: str, field: str, bad: str, good: str
) -> None:
    """The message stands under the form; table, charts and address stay, and the next answer takes it away."""
    page = open_page(path)
    drawn(page)
    box = page.locator(f"#{panel}")
    expect(box.locator(".scroll, .chart, .strip").first).to_be_visible()  # a panel may fill itself later
    typed = box.locator(f"[name={field}]:not([type=hidden])")
    before, results = page.url, box.locator(".scroll, .chart, .strip").count()
    typed.fill(bad)
    box.locator("form").first.evaluate("form => form.requestSubmit()")
    expect(box.get_by_role("alert")).to_be_visible()
    expect(typed).to_have_value(bad)
    assert page.url == before
    assert box.locator(".scroll, .chart, .strip").count() == results > 0
    typed.fill(good)
    box.locator("form").first.evaluate("form => form.requestSubmit()")
    expect(box.get_by_role("alert")).to_have_count(0)
    expect(typed).to_have_value(good)
