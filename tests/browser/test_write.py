"""The page on which the model writes, as a person uses it: what is shown is kept as it is shown."""

import csv
from collections.abc import Callable

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect  # noqa: E402

pytestmark = pytest.mark.browser

TEXT = "It was the best of times, café,"


def run(page: Page, n: int) -> None:
    page.locator("[name=n]").first.fill(str(n))
    page.locator("[data-run]").click()
    settled(page, n)


def settled(page: Page, n: int) -> None:
    """Once so many tokens stand there and no more come."""
    expect(page.locator("#write-said")).to_contain_text("ended by")
    expect(page.locator("#write-strip [data-step]")).to_have_count(n)


def strip(page: Page) -> str:
    return "".join(page.locator("#write-strip > *").all_text_contents())


def test_a_text_is_gone_on_with_branched_left_and_found_again(open_page: Callable[..., Page]) -> None:
    page = open_page("/write")
    page.locator("textarea[name=text]").fill(TEXT)
    run(page, 12)
    once = strip(page)
    assert "café" in once
    assert "\\x" not in once
    run(page, 7)
    page.locator("[name=n]").first.fill("5")
    page.locator("#write-on").click()
    settled(page, 12)
    assert strip(page) == once, "7 and 5 are the 12 of one go"
    expect(page.locator("#write-code code")).to_contain_text('"written": [')

    page.locator("[data-step='3']").click()
    page.locator("#write-step .write-choice button").first.click()
    settled(page, 9)
    expect(page.locator("#write-branches li")).to_have_count(2)
    branch = strip(page)
    assert branch != once

    page.locator("#write-step").get_by_role("button", name="Open on the prompt page").click()
    expect(page.locator("#strip")).to_be_visible()
    page.go_back(wait_until="commit")
    expect(page.locator("#write-branches li")).to_have_count(2)
    assert strip(page) == branch
    page.reload()
    expect(page.locator("#write-branches li")).to_have_count(2)
    assert strip(page) == branch
    assert page.locator("textarea[name=text]").input_value() == TEXT
    page.locator("#write-branches button").first.click()
    assert strip(page) == once

    page.locator("textarea[name=text]").fill("Something else")
    with page.expect_download() as download:
        page.locator("#write-code button", has_text="CSV").click()
    rows = list(csv.DictReader(download.value.path().open(encoding="utf-8")))
    cells = page.locator("#write-strip [data-step]")
    assert [row["text"].lstrip("'") for row in rows] == [
        cells.nth(i).get_attribute("aria-label").rsplit(", entropy", 1)[0] for i in range(12)
    ]
    page.locator("#write-on").click()
    expect(page.locator("#write-refused")).to_contain_text("The prompt or the model is another")
    assert strip(page) == once
    page.locator("#write-share").click()
    expect(page.locator("main")).to_contain_text("Recomputed: the same numbers.")
    expect(page.locator("main")).to_contain_text("café")


def test_what_was_stopped_is_shared_as_far_as_it_came(open_page: Callable[..., Page]) -> None:
    page = open_page("/write")
    page.locator("textarea[name=text]").fill(TEXT)
    page.locator("[name=n]").first.fill("200")
    page.locator("[data-run]").click()
    expect(page.locator("[data-step='2']")).to_be_visible()
    page.locator("#write-stop").click()
    expect(page.locator("#write-said")).to_contain_text("ended by you")
    shown = page.locator("#write-strip [data-step]")
    text = "".join(shown.all_text_contents())
    n = shown.count()
    page.locator("#write-share").click()
    expect(page.locator("main")).to_contain_text(f"The model goes on for {n} tokens")
    expect(page.locator("main")).to_contain_text(text.replace(" ", "␣")[:40])


def test_no_tokens_are_refused_beside_what_is_shown(open_page: Callable[..., Page]) -> None:
    page = open_page("/write")
    run(page, 3)
    shown = strip(page)
    page.locator("[name=n]").first.fill("0")
    page.locator("#write-on").click()
    expect(page.locator("#write-refused")).to_contain_text("Tokens: ")
    assert strip(page) == shown
    assert page.locator("[name=n]").first.input_value() == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(open_page: Callable[..., Page], scheme: str) -> None:
    page = open_page("/write", viewport={"width": 390, "height": 844}, color_scheme=scheme)
    run(page, 6)
    page.locator("[data-step='2']").click()
    expect(page.locator("#write-step table")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_file_of_dials_is_of_the_dials_that_are_shown(open_page: Callable[..., Page]) -> None:
    page = open_page("/write")
    page.locator("[name=n]").first.fill("4")
    page.locator("[name=d1]").fill("3.62")
    page.locator("#dials button", has_text="Turn").click()
    shown = page.locator("#dialled tbody tr")
    expect(shown.first).to_be_visible()
    arms = shown.locator("th").all_text_contents()
    page.locator("[name=d1]").first.fill("3.63")
    page.locator("[name=n]").first.fill("9")
    with page.expect_download() as download:
        page.locator("#dialled button", has_text="CSV").click()
    rows = list(csv.DictReader(download.value.path().open(encoding="utf-8")))
    assert list(dict.fromkeys(row["arm"] for row in rows)) == arms
    assert all(float(row["length"]) <= 4 for row in rows if row.get("length"))
