"""The prompt page as a person uses it: mouse, keyboard, phone, without JavaScript, back and forward."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.browser

Open = Callable[..., Page]
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom"
OTHER = "The old captain walked slowly down to the harbour."


def run(page: Page, text: str = TEXT) -> None:
    page.fill("#text", text)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#strip")).to_contain_text(text.split()[-1])
    expect(page.locator("#neurons tbody tr[data-neuron]").first).to_be_visible()


def shown(page: Page) -> dict[str, object]:
    """The numbers that the strip is coloured from."""
    found: dict[str, object] = json.loads(page.locator("#strip-data").text_content() or "")
    return found


def curves(page: Page) -> list[list[float | None]]:
    """The y values of the drawn curves, as Plotly has them."""
    page.wait_for_selector('[data-chart="curves"] [data-drawn]')
    found: list[list[float | None]] = page.evaluate(
        "document.querySelector('[data-chart=\"curves\"] [data-drawn]').data.map((trace) => Array.from(trace.y))"
    )
    return found


def test_first_paint_is_an_example_under_the_real_policy(open_page: Open, server: str) -> None:
    page = open_page("/?example=nonsense")
    expect(page.locator(".claim")).to_contain_text("Computed beforehand")
    assert len(curves(page)) == 5
    assert page.locator("#neurons tbody tr").count() == 25
    policy = page.request.get(server).headers["content-security-policy"]
    assert "script-src 'self';" in policy


def test_run_select_ablate_and_the_curves_part(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.click('#strip .tok[data-i="9"]')
    expect(page.locator("#selected-title")).to_contain_text("at 9")
    expect(page.locator("#neurons-title")).to_contain_text("position 9")
    first = page.locator("#neurons tbody tr").first
    neuron = first.get_attribute("data-neuron")
    page.keyboard.press("Escape")
    first.get_by_role("button", name="Ablate").click()
    expect(page.locator(".chip:not(.watch)")).to_contain_text(str(neuron))
    data = shown(page)
    assert data["intervened"]["entropy"][9] != data["clean"]["entropy"][9]  # type: ignore[index]
    page.get_by_text("intervened", exact=True).first.click()
    lines = curves(page)
    assert lines[0] != lines[1]
    assert "3." in page.url
    assert "best" not in page.url


def test_strip_is_recoloured_without_a_request(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    token = page.locator('#strip .tok[data-i="5"]')
    before = token.evaluate("(element) => element.style.getPropertyValue('--c')")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.select_option("select[name=metric]", "loss")
    after = token.evaluate("(element) => element.style.getPropertyValue('--c')")
    page.get_by_text("fixed range").click()
    assert before != after
    assert page.locator("[data-legend=high]").text_content() == "8.32 nats"
    assert asked == []


def test_popup_always_has_the_true_next_token(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.hover('#strip .tok[data-i="4"]')
    tip = page.locator("#tip")
    expect(tip).to_be_visible()
    data = shown(page)
    expect(tip).to_contain_text(f"rank {data['clean']['rank'][4]}")  # type: ignore[index]
    page.mouse.move(10, 10)
    expect(tip).to_be_hidden()


def test_keyboard_alone(open_page: Open) -> None:
    page = open_page("/")
    page.locator("#text").focus()
    run(page)
    page.locator('#strip .tok[tabindex="0"]').focus()
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#selected-title")).to_contain_text("at 3")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#range")).to_contain_text("Tokens 3–4")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#neurons-title")).to_contain_text("position 3")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    neuron = page.evaluate("document.activeElement.dataset.neuron")
    page.keyboard.press("a")
    expect(page.locator(".chip:not(.watch)")).to_contain_text(neuron)
    page.keyboard.press("p")
    expect(page.locator("[data-pinned]")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("null")
    expect(page.locator("#find-list li:not([hidden])")).to_contain_text(["Null space"])
    page.keyboard.press("Escape")
    page.locator("#main").focus()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def test_back_and_reload_bring_the_text_back(open_page: Open) -> None:
    page = open_page("/")
    for text in (TEXT, OTHER):
        run(page, text)
    page.go_back()
    expect(page.locator("#strip")).to_contain_text("wisdom")
    expect(page.locator("#text")).to_have_value(TEXT)
    page.go_forward()
    expect(page.locator("#strip")).to_contain_text("harb")
    page.reload()
    expect(page.locator("#strip")).to_contain_text("harb")
    expect(page.locator("#text")).to_have_value(OTHER)


def test_an_edited_box_is_not_what_back_brings(open_page: Open) -> None:
    """The count swapped in while another text is being typed must not write that text into the history."""
    page = open_page("/")
    run(page)
    with page.expect_response("**/count"):
        page.fill("#text", OTHER)
    expect(page.locator("#count")).to_contain_text("tokens")
    page.click('#strip .tok[data-i="15"]')  # the panels go on with the text that the strip shows
    expect(page.locator("#selected-title")).to_contain_text("at 15")
    run(page, OTHER)
    page.go_back()
    expect(page.locator("#text")).to_have_value(TEXT)
    expect(page.locator("#strip")).to_contain_text("wisdom")


def test_pinned_run_stands_in_every_panel(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.click('[name="act"][value="pin"]')
    expect(page.locator("[data-pinned]")).to_contain_text("wisdom")
    run(page, OTHER)
    page.click('#strip .tok[data-i="6"]')
    expect(page.locator("#selected thead").first).to_contain_text("pinned")
    expect(page.locator("#neurons thead")).to_contain_text("pinned")
    assert len(curves(page)) == 10


def test_chips_pause_and_remove(open_page: Open) -> None:
    page = open_page("/?example=entropy-neuron")
    expect(page.locator(".chip:not(.watch)")).to_have_count(1)
    page.click('button[value="pause:0"]')
    expect(page.locator(".chip.paused")).to_have_count(1)
    assert shown(page).get("intervened") is None
    page.click('button[value="pause:0"]')
    expect(page.locator(".chip.paused")).to_have_count(0)
    page.click('button[value="drop:0"]')
    expect(page.locator(".chip:not(.watch)")).to_have_count(0)


def test_add_a_neuron_of_an_early_layer(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.click("details.add summary")
    page.fill("input[name=neuron]", "0.5")
    page.select_option("select[name=mode]", "value")
    page.fill("input[name=value]", "4")
    page.fill("input[name=where]", "4-9")
    page.keyboard.press("Enter")
    expect(page.locator(".chip:not(.watch)")).to_contain_text("0.5")
    data = shown(page)
    assert data["intervened"]["entropy"][3] == data["clean"]["entropy"][3]  # type: ignore[index]
    assert data["intervened"]["entropy"][6] != data["clean"]["entropy"][6]  # type: ignore[index]


def test_an_error_stands_where_its_cause_is(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.fill("#text", "word " * 300)
    expect(page.locator("#count")).to_have_class("count over")
    expect(page.locator("#result")).to_have_class("stale old")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result .error").first).to_contain_text("at most 256")
    expect(page.locator("#text")).to_have_value("word " * 300)


def test_hostile_text_is_shown_never_run(open_page: Open) -> None:
    page = open_page("/")
    page.evaluate("window.broken = false")
    run(
        page, "<script>window.broken = true</script><img src=x onerror='window.broken = true'> \u202eabc\u0000 </b> end"
    )
    curves(page)
    assert page.evaluate("window.broken") is False
    assert page.locator("#strip img, #strip script").count() == 0
    expect(page.locator("#strip")).to_contain_text("script")


def test_table_sorts_filters_and_pages(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.click('#strip .tok[data-i="9"]')  # at the last one there is no loss to sort by
    expect(page.locator("#neurons-title")).to_contain_text("position 9")
    page.keyboard.press("Escape")
    page.click('#neurons th button:has-text("Direct")')
    expect(page.locator("#neurons th[aria-sort]")).to_contain_text("Direct")
    page.click('#neurons .pager button:has-text("Next")')
    expect(page.locator("#neurons .pager")).to_contain_text("26–50")
    page.fill("#neurons input[name=find]", "3.17 3.20")
    page.keyboard.press("Enter")
    expect(page.locator("#neurons tbody tr[data-neuron]")).to_have_count(2)
    page.click('#neurons .segments button:has-text("loss")')
    expect(page.locator("#neurons th[aria-sort]")).to_contain_text("loss")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(open_page: Open, scheme: str) -> None:
    page = open_page("/", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.tap('#strip .tok[data-i="5"]')
    expect(page.locator("#selected-title")).to_contain_text("at 5")
    expect(page.locator("#tip")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_without_javascript(open_page: Open) -> None:
    page = open_page("/", java_script_enabled=False)
    page.fill("#text", TEXT)
    page.click('button[value="run"]')
    expect(page.locator("#strip")).to_contain_text("wisdom")
    expect(page.locator("#neurons tbody tr[data-neuron]")).to_have_count(25)
    page.click('#strip .tok[data-i="9"]')
    expect(page.locator("#selected-title")).to_contain_text("at 9")
    page.locator("#neurons tbody tr").first.get_by_role("button", name="Ablate").click()
    expect(page.locator(".chip:not(.watch)")).to_have_count(1)
    expect(page.locator("#selected thead").first).to_contain_text("intervened")


def test_an_answer_that_comes_after_going_back_is_dropped(open_page: Open) -> None:
    page = open_page("/")
    for text in (TEXT, OTHER):
        run(page, text)
    held: list[Route] = []
    page.route(
        "**/", lambda route: held.append(route) if "third" in (route.request.post_data or "") else route.continue_()
    )
    page.fill("#text", "This is the third text of this page.")
    with page.expect_request(lambda request: "third+text" in (request.post_data or "")):
        page.keyboard.press("Control+Enter")
    page.go_back(wait_until="commit")
    expect(page.locator("#strip")).to_contain_text("wisdom")
    for route in held:
        route.continue_()
    page.click('#strip .tok[data-i="3"]')
    expect(page.locator("#selected-title")).to_contain_text("at 3")
    expect(page.locator("#strip")).to_contain_text("wisdom")
    expect(page.locator("#text")).to_have_value(TEXT)
    assert "wisdom" in page.evaluate("history.state.form.text")


def test_what_was_chosen_outlives_an_error(open_page: Open) -> None:
    page = open_page("/")
    run(page)
    page.locator("#neurons tbody tr").first.get_by_title("Draw the activation").click()
    expect(page.locator(".chip.watch")).to_have_count(1)
    page.fill("#text", "word " * 300)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result .error").first).to_contain_text("at most 256")
    run(page, OTHER)
    expect(page.locator(".chip.watch")).to_have_count(1)


def test_a_loading_model_is_asked_for_the_text_that_was_run(open_page: Open) -> None:
    """The panel that waits asks again by itself; what is being typed meanwhile is not run."""
    page = open_page("/")
    loading = """<div id="result" class="stale"><section class="panel" hx-post="/" hx-trigger="load delay:500ms"
        hx-target="#result" hx-swap="outerHTML" hx-sync="#run:replace">The model is loading.</section></div>"""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data or "")
        if len(asked) == 1:
            route.fulfill(status=409, content_type="text/html", body=loading)
        else:
            route.continue_()

    page.route("**/", answer)
    page.fill("#text", TEXT)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result")).to_contain_text("The model is loading.")
    page.fill("#text", OTHER)
    expect(page.locator("#strip")).to_contain_text("wisdom")
    expect(page.locator("#text")).to_have_value(OTHER)
    expect(page.locator("#result")).to_have_class("stale old")
    assert "captain" not in asked[1]
