"""A refusal as a person sees it: beside its field, with all else on the page as it was."""

from collections.abc import Callable

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect  # noqa: E402

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def test_one_wrong_neuron_locks_nothing(open_page: Open) -> None:
    page = open_page("/")
    rows, chips = page.locator("#neurons tr[data-neuron]"), page.locator(".chip")
    expect(rows).to_have_count(25)
    before = chips.count()  # what the worked example brings
    page.click("details.add summary")
    for neuron, where, cause in (("3.9999", "", "There is no neuron 3.9999"), ("3.17", "5-900", "Positions 5-900")):
        page.fill("[name=neuron]", neuron)
        page.fill("[name=where]", where)
        page.click("#add")
        expect(page.locator(".add-form .error")).to_contain_text(cause)
        expect(page.locator("[name=neuron]")).to_have_value(neuron)
        expect(page.locator("#strip .tok").first).to_be_visible()
        expect(rows).to_have_count(25)
        expect(chips).to_have_count(before)
    page.fill("[name=where]", "")
    page.click("#add")
    expect(chips).to_have_count(before + 1)
    expect(page.locator(".error")).to_have_count(0)


def test_a_refused_filter_leaves_the_table_and_the_next_token(open_page: Open) -> None:
    page = open_page("/")
    rows = page.locator("#neurons tr[data-neuron]")
    page.fill("#neurons [name=find]", "3.9999")
    page.click("#filter")
    expect(page.locator("#neurons .filter + .refused .error")).to_be_visible()
    expect(rows).to_have_count(25)
    page.locator("#strip .tok").nth(3).click()
    expect(page.locator("#neurons-title")).to_contain_text("position 3")
    expect(rows).to_have_count(25)
    page.fill("#neurons [name=find]", "3.62")
    page.click("#filter")
    expect(rows).to_have_count(1)
    expect(page.locator(".error")).to_have_count(0)


def test_an_address_that_does_not_hold_can_be_mended_on_the_page(open_page: Open) -> None:
    page = open_page("/?do=3.9999:mean+3.17:zero&watch=9.9&show=change")
    expect(page.locator(".left-out")).to_contain_text("There is no neuron 3.9999")
    page.click(".chip.bad [aria-label='Remove 3.9999']")
    expect(page.locator(".chip.bad")).to_have_count(1)
    page.click(".chip.bad [aria-label='Stop watching 9.9']")
    expect(page.locator(".left-out")).to_have_count(0)
    expect(page.locator(".chip")).to_have_count(1)


@pytest.mark.parametrize(
    ("path", "field", "button", "place"),
    [
        ("/atlas", "#neurons [name=neurons]", "#neurons form button", "#neurons .refused"),
        ("/effects?panel=joint", "[name=neurons]", "#effects .row button", "#effects .refused"),
        ("/induction", "[name=clip]", "#result .row button", "#result > .refused"),
    ],
)
def test_what_stood_on_the_page_still_stands(open_page: Open, path: str, field: str, button: str, place: str) -> None:
    page = open_page(path)
    box = page.locator(field).first
    expect(box).to_be_visible()
    expect(page.locator("[hx-trigger*=load], .htmx-request")).to_have_count(0)  # panels have asked for themselves
    charts, address = page.locator("[data-chart]").count(), page.url
    box.fill("3.9999")
    page.locator(button).first.click()
    expect(page.locator(place).first).to_contain_text("3.9999")
    expect(box).to_have_value("3.9999")
    assert (page.locator("[data-chart]").count(), page.url) == (charts, address)
