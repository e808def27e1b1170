"""The first five minutes: the story moves, the answer is above the fold, a prompt travels, nothing leaves a window."""

import re
from collections.abc import Callable

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, Route, expect  # noqa: E402

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def turn(page: Page, step: str, to: int) -> str:
    """What the step says once its slider stands there."""
    page.locator(f'[data-step="{step}"]').evaluate(
        "(input, to) => { input.value = to; input.dispatchEvent(new Event('input', { bubbles: true })); }", to
    )
    return page.locator(f'[data-reads="{step}"]').inner_text()


@pytest.mark.parametrize(("width", "height", "scheme"), [(1400, 900, "light"), (390, 844, "dark")])
def test_the_steps_move_what_they_say(open_page: Open, width: int, height: int, scheme: str) -> None:
    page = open_page("/tour", viewport={"width": width, "height": height}, color_scheme=scheme)
    for step in ("scaled", "held", "unread", "entropy", "frequency"):
        assert turn(page, step, 0) != turn(page, step, 9), step
    unread = page.locator('[data-bar="null"] + b')
    read = page.locator('[data-bar="read"] + b')
    turn(page, "unread", 20)
    assert float(unread.inner_text()) < 0.01 < float(read.inner_text())
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_answer_stands_above_the_fold(open_page: Open) -> None:
    page = open_page("/", viewport={"width": 1400, "height": 900})
    expect(page.locator("#says")).to_contain_text("holds it up by")
    row = page.locator("#neurons tbody tr").first.bounding_box()
    assert row is not None
    assert row["y"] + row["height"] <= 900
    cells = page.locator("#neurons tbody tr").first.locator("td, th").all_inner_texts()
    assert cells[2] == "entropy"
    assert 0 < float(cells[3]) < 1


def test_a_prompt_and_its_token_travel(open_page: Open, server: str) -> None:
    """Through every page that is about a text, each with a strip to choose from; the address never has the text."""
    page = open_page("/")
    page.fill("#text", "A river of bread and seven green windows")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#strip")).to_contain_text("windows")
    page.locator("#neurons tbody tr[data-neuron]").first.get_by_role("button", name="Ablate").click()
    chips = page.locator("#state .chip:not(.watch)")
    expect(chips).to_have_count(1)
    page.goto(server + "/effects?panel=joint")
    token = page.locator(".strip.picks .tok").nth(3)
    chosen = token.inner_text()
    token.click()
    expect(page.locator("#joint-title")).to_contain_text("at token 3")
    for path in ("/why", "/effects?panel=dose", "/nullspace", "/frequency", "/m/demo/n/3.62"):
        page.goto(server + path)
        expect(page.locator(".strip.picks .tok[aria-pressed=true]")).to_have_text(chosen)
        expect(page.locator("#state")).to_contain_text("A river of bread")
        expect(chips).to_have_count(1)
        assert "river" not in page.url
    page.goto(server + "/induction")
    expect(page.locator("#result .strip.picks")).to_contain_text("bread")
    page.locator("#result .strip.picks .tok").nth(2).click()
    expect(page.locator("[name=corrupt_at]")).to_have_value("2")
    page.goto(server + "/models")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state .chip.paused")).to_have_count(1)
    page.get_by_role("button", name="Remove").click()
    expect(chips).to_have_count(0)
    assert page.url.endswith("/models")


def test_where_no_token_follows_no_column_is_empty(open_page: Open) -> None:
    page = open_page("/")
    page.locator("#strip .tok").last.click()
    expect(page.locator("#neurons")).to_contain_text("No next token here: loss is not defined.")
    assert "loss" not in page.locator("#neurons thead").inner_text().lower()
    assert "–" not in page.locator("#neurons tbody").inner_text()


def test_what_is_at_hand_is_marked_and_a_wait_says_its_stage_where_it_waits(open_page: Open, server: str) -> None:
    page = open_page("/")
    name = page.locator("#neurons tbody tr").nth(2).get_attribute("data-neuron")
    page.locator("#neurons tbody tr").nth(2).get_by_role("button", name="Watch").click()
    expect(page.locator("#state .chip.watch").filter(has_text=str(name))).to_be_visible()
    expect(page.locator(f'#neurons tr.at-hand[data-neuron="{name}"]')).to_have_count(1)
    page.goto(server + "/atlas")
    expect(page.locator('[data-chart="map"] [data-drawn]')).to_be_visible()
    marked = '[data-chart="map"] [data-drawn] .textpoint'
    expect(page.locator(marked).filter(has_text=str(name))).to_have_count(1)
    held: list[Route] = []
    page.goto(server + "/nullspace")
    page.route("**/nullspace", lambda route: held.append(route))
    page.get_by_role("button", name="Walk").click()
    expect(page.locator("#walk > .stage")).to_contain_text("Being computed")
    held[0].continue_()
    expect(page.locator(".stage")).to_have_count(0)


def test_both_numbers_of_the_slider_of_k_move_together(open_page: Open) -> None:
    """Beside the slider while it is dragged; what the page says of k once it has been computed."""
    page = open_page("/nullspace")
    slider, beside, used = page.locator("#k"), page.locator("#k-now"), page.locator("#k-used")
    before = int(beside.inner_text())
    expect(used).to_have_text(re.compile(rf"^{before} of "))
    slider.evaluate("(input) => { input.value = 12; input.dispatchEvent(new Event('input', { bubbles: true })); }")
    expect(beside).to_have_text("12")
    expect(used).to_have_text(re.compile("^12 of "))
    expect(page.locator("#k-informative")).to_have_text("11")
    assert before != 12


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_a_result_scrolls_into_view(open_page: Open, width: int, height: int) -> None:
    """What a button brings, where it would have stood at the lower edge of the window."""
    page = open_page("/m/demo/n/3.62", viewport={"width": width, "height": height})
    button = page.get_by_role("button", name="Follow back")
    expect(button).to_be_visible()
    page.evaluate("scrollBy(0, document.querySelector('#drives').getBoundingClientRect().top - innerHeight + 2)")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#drives [data-drawn]")).to_be_visible()
    expect(page.locator("#drives")).to_be_in_viewport(ratio=0.2)


def test_the_map_of_the_atlas_is_as_wide_as_a_phone(open_page: Open) -> None:
    page = open_page("/atlas", viewport={"width": 390, "height": 844}, color_scheme="dark")
    chart = page.locator('[data-chart="map"] [data-drawn]')
    expect(chart).to_be_visible()
    assert chart.evaluate("(element) => element._fullLayout.xaxis._length") > 0.7 * chart.evaluate(
        "(e) => e.clientWidth"
    )
    wide = open_page("/atlas", viewport={"width": 1400, "height": 900}).locator('[data-chart="map"] [data-drawn]')
    expect(wide).to_be_visible()
    assert wide.evaluate("(element) => element._fullLayout.xaxis.domain[1]") < 0.9


def test_paper_is_light_whatever_the_screen_is(open_page: Open) -> None:
    """Charts too, which are drawn anew for it and again after it."""
    page = open_page("/frequency", color_scheme="dark")
    chart = page.locator("#unigram [data-drawn]")
    expect(chart).to_be_visible()
    colour = "(element) => element._fullLayout.font.color"
    dark = chart.evaluate(colour)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    light = chart.evaluate(colour)
    assert light != dark
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert chart.evaluate(colour) == dark
    assert page.evaluate("document.documentElement.dataset.theme") is None
