"""The induction page as a person uses it: repeat a text, see the copies part, clip a neuron, take a head out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

Open = Callable[..., Page]
TEXT = "the grey heron waited by the water gate while seven barges of salt went down to the sea"


def drawn(page: Page, name: str) -> list[dict[str, Any]]:
    """The traces of a chart, as Plotly has them."""
    page.wait_for_selector(f'[data-chart="{name}"] [data-drawn]')
    found: list[dict[str, Any]] = page.evaluate(
        f"document.querySelector('[data-chart=\"{name}\"] [data-drawn]').data"
        ".map((t) => ({name: t.name, y: Array.from(t.y ?? [])}))"
    )
    return found


def repeat(page: Page, text: str = TEXT) -> None:
    page.select_option("[name=kind]", "text")
    page.fill("textarea[name=text]", text)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result")).to_contain_text("from your text")


def test_repeat_clip_and_take_a_head_out(open_page: Open, tmp_path: Path) -> None:
    page = open_page("/induction")
    repeat(page)
    first, second = (trace["y"] for trace in drawn(page, "overlay")[:2])
    assert len(first) == len(second) > 10
    assert sum(second[5:]) < sum(first[5:])  # the second time the model is surer
    assert "text=" not in page.url
    assert TEXT.split()[0] not in page.url

    row = page.locator("#ranking tbody tr").first
    neuron = row.locator(".neuron").inner_text()
    row.get_by_role("button", name="Clip").click()
    expect(page.locator("#clip")).to_contain_text(f"{neuron} kept at")
    expect(page.locator("#clip")).to_contain_text("20 sets of random directions")
    ratio = next(trace["y"] for trace in drawn(page, "clip") if trace["name"] == "clipped")
    assert any(abs(value - 1) > 1e-6 for value in ratio if value is not None)

    page.locator("#ranking tbody tr").first.get_by_role("button", name="Drivers").click()
    expect(page.locator("#who")).to_contain_text("changes by")
    drawn(page, "parts")

    heads = page.locator("#heads tbody tr")
    head = heads.first.locator(".neuron").inner_text()
    heads.first.get_by_role("button", name="Pattern").click()
    expect(page.locator("#heads h3")).to_contain_text(f"Head {head}")
    drawn(page, "pattern")
    page.locator("#heads tbody tr").first.get_by_role("button", name="Take out").click()
    expect(page.locator("#ablation table")).to_contain_text(head)
    names = [trace["name"] for trace in drawn(page, "queries")]
    assert "clean" in names
    assert f"without {head}" in names
    picture = tmp_path / "induction.png"
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000


def test_an_address_shows_a_colleague_the_same_curves(open_page: Open) -> None:
    page = open_page("/induction")
    page.select_option("[name=kind]", "random")
    page.fill("[name=rows]", "3")
    page.fill("[name=seed]", "11")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result")).to_contain_text("random token ids, seed 11")
    mine = drawn(page, "curves")
    assert "seed=11" in page.url
    theirs = open_page("/" + page.url.split("/", 3)[3])
    assert drawn(theirs, "curves") == mine


def test_clicking_a_head_on_the_map_shows_its_pattern(open_page: Open) -> None:
    page = open_page("/induction?rows=2")
    page.wait_for_selector('[data-chart="map"] [data-drawn]')
    page.locator('[data-chart="map"] .nsewdrag').click()
    expect(page.locator("#heads h3")).to_contain_text("on the first row")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_sideways_scrolling(open_page: Open, scheme: str) -> None:
    page = open_page("/induction?rows=2&clip=3.10", viewport={"width": 390, "height": 800}, color_scheme=scheme)
    drawn(page, "clip")
    drawn(page, "aligned")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_without_javascript_the_panels_are_pages(open_page: Open) -> None:
    page = open_page("/induction?rows=2", java_script_enabled=False)
    page.locator("#ranking tbody tr").first.get_by_role("button", name="Drivers").click()
    expect(page.locator("h1")).to_have_text("What drives this neuron?")
    expect(page.locator("#who")).to_contain_text("changes by")


def test_a_passage_opens_in_the_prompt_page(open_page: Open) -> None:
    page = open_page("/induction?rows=2")
    page.locator("summary", has_text="The passages").click()
    page.get_by_role("button", name="Open in the prompt page").first.click()
    expect(page.locator("#strip")).to_be_visible()


def test_a_head_is_taken_out_of_a_prompt(open_page: Open, tmp_path: Path) -> None:
    """The same text twice on the prompt page: without the head that copies, the second copy is read with less
    confidence; the clean run stays beside it, and pausing the chip brings it back."""
    page = open_page("/")
    page.fill("#text", f"{TEXT}. {TEXT}.")
    with page.expect_response(lambda answer: "#neurons" in answer.request.headers.get("hx-target", "")):
        page.keyboard.press("Control+Enter")  # the table comes last; until then the page moves
    expect(page.locator("#strip")).to_contain_text("barges")
    page.locator("details.add summary").press("Enter")
    page.fill("[name=neuron]", "L3H3")
    page.select_option("[name=mode]", "bos")
    page.click("#add")
    chip = page.locator(".chip", has_text="L3H3")
    expect(chip).to_contain_text("reads BOS only")
    changes = [trace["y"] for trace in drawn(page, "changes")]
    assert any(abs(value) > 1e-3 for series in changes for value in series if value is not None)
    picture = tmp_path / "prompt.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000
    chip.get_by_role("button", name="Pause L3H3").click()
    expect(page.locator(".chip.paused", has_text="L3H3")).to_be_visible()
    expect(page.locator('[data-chart="changes"]')).to_have_count(0)
    page.get_by_role("button", name="Remove L3H3").click()
    expect(page.locator(".chip", has_text="L3H3")).to_have_count(0)


def test_the_worked_example_is_there_without_waiting(open_page: Open) -> None:
    page = open_page("/")
    page.get_by_role("link", name="Repeats").click()
    expect(page.locator(".claim")).to_contain_text("sets of random directions of their norms")
    names = [trace["name"] for trace in drawn(page, "clip")]
    assert "clipped" in names


def test_the_address_of_ones_own_text(open_page: Open) -> None:
    page = open_page("/induction")
    repeat(page)
    page.wait_for_url("**prompt=*")
    mine = drawn(page, "curves")
    page.locator("#result").get_by_role("button", name="Share").first.click()
    page.wait_for_url("**/r/*")
    theirs = open_page("/" + page.url.split("/", 3)[3])
    expect(theirs.locator(".claim")).to_contain_text("Recomputed: the same numbers")
    assert drawn(theirs, "curves") == mine
