"""What a person has at hand follows them from page to page, belongs to nobody else, and is bounded."""

import html
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.core import at_hand
from app.core.at_hand import COOKIE, AtHand, Desks

TEXT = "a cat sat there"
MODEL = "tiny-gpt2"
OWN = {"sec-fetch-site": "same-origin"}


def request(cookie: str = "", *, person: str = "local", method: str = "POST", **headers: str) -> Any:
    """As much of a request as a desk looks at."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(
        cookies={COOKIE: cookie} if cookie else {},
        query_params={},
        method=method,
        headers={"host": "here", **sent},
        state=SimpleNamespace(person=person),
    )


def fields(text: str = TEXT, **more: str) -> Mapping[str, str]:
    return {"model": "tiny", "text": text, **more}


@pytest.fixture
def desks() -> Desks:
    return Desks(lambda: AtHand({"text": "the first example"}))


def test_it_is_there_again_and_only_for_the_same_person(desks: Desks) -> None:
    first = request()
    desks.put(first, fields(do="1.3:mean", pos="2"))
    cookie = first.state.new_desk
    assert desks.of(request(cookie)).get("do") == "1.3:mean"
    assert desks.of(request(cookie, person="somebody else")).get("text") == "the first example"
    assert desks.of(request("guessed")).get("text") == "the first example"
    desks.forget(request(cookie))
    assert desks.kept(request(cookie)) is None


def test_an_address_names_an_earlier_prompt(desks: Desks) -> None:
    first = request()
    name = desks.put(first, fields()).name
    again = request(first.state.new_desk)
    assert desks.put(again, fields("another")).name != name
    again.query_params = {at_hand.NAME: name}
    assert desks.of(again).get("text") == TEXT
    again.query_params = {at_hand.NAME: "ffffffff"}
    assert desks.of(again).get("text") == "another"
    assert desks.put(again, fields()).name == name


@pytest.mark.parametrize(
    ("headers", "changes"),
    [
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({}, False),
        ({"referer": "http://elsewhere/"}, False),
        ({"referer": "http://here/why"}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
    ],
)
def test_a_link_on_another_site_changes_nothing(desks: Desks, headers: dict[str, str], changes: bool) -> None:
    asked = request(method="GET", **headers)
    desks.put(asked, fields())
    assert hasattr(asked.state, "new_desk") == changes


def test_it_is_bounded(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "SESSIONS", 3)
    monkeypatch.setattr(at_hand, "ALL_BYTES", 2000)
    asked = [request() for _ in range(5)]
    for each in asked:
        desks.put(each, fields())
    there = [desks.kept(request(each.state.new_desk)) is not None for each in asked]
    assert there == [False, False, True, True, True]
    last = request(asked[-1].state.new_desk)
    for i in range(100):
        desks.put(last, fields(f"{i} {'x' * 300}"))
    assert desks.of(last).get("text").startswith("99 ")
    assert sum(session.size for session in desks._sessions.values()) <= 24 * 310
    monkeypatch.setattr(at_hand, "MOST_BYTES", 100)
    desks.put(last, fields("y" * 200))
    assert desks.of(last).get("text").startswith("99 ")


def test_it_grows_old() -> None:
    now = [0.0]
    desks = Desks(AtHand, clock=lambda: now[0])
    first = request()
    desks.put(first, fields())
    now[0] = at_hand.SECONDS + 1
    assert desks.kept(request(first.state.new_desk)) is None


def test_opening_a_page_keeps_nothing_and_a_prompt_follows(client: TestClient) -> None:
    client.cookies.clear()
    alone = client
    for path in ("/", "/why", "/models", "/docs"):
        assert COOKIE not in alone.get(path, headers=OWN).cookies
    run = alone.post("/", data={"text": TEXT, "do": "1.3:mean", "watch": "1.2", "pos": "2"})
    cookie = run.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    for path in ("/", "/why", "/effects", "/nullspace", "/frequency"):
        page = alone.get(path).text
        assert re.search(rf"<textarea[^>]*>\s*{TEXT}", page), path
    for path in ("/models", "/atlas", "/atlas/1.3", "/lab", "/sweeps", "/induction"):
        bar = alone.get(path).text.partition('id="state"')[2].partition("<main")[0]
        assert TEXT in bar
        assert "→ mean" in bar
        assert "Stop watching 1.2" in bar
    pressed = alone.post("/state", data={"act": "pause:0", "next": "/why?target=loss"}, follow_redirects=False)
    assert pressed.headers["location"] == "/why?target=loss"
    assert "Resume 1.3" in alone.get("/models").text
    alone.post("/state", data={"act": "drop:0", "next": "https://elsewhere/"})
    assert "Remove 1.3" not in alone.get("/models").text
    assert alone.post("/state", data={"act": "drop:7"}).status_code == 422


def shown_on(client: TestClient, path: str) -> str:
    """The text in the box of this page, or of the part of it that comes by itself."""
    part = {"HX-Request": "true", "HX-Target": "section#live"} if "/n/" in path else {}
    found = re.search(r"<textarea[^>]*name=.text[^>]*>\s*([^<]*)</textarea>", client.get(path, headers=part).text)
    assert found, path
    return html.unescape(found[1]).strip()


def test_before_anybody_chose_a_prompt_every_page_is_about_the_one_that_its_bar_shows(client: TestClient) -> None:
    client.cookies.clear()
    assert client.get(f"/api/v1/models/{MODEL}/neurons").is_success  # waits for the atlas, which pages would not
    first = client.app.state.desks.first().get("text")  # type: ignore[attr-defined]
    assert first
    for path in ("/", "/why", "/effects", "/nullspace", "/frequency", f"/m/{MODEL}/n/1.3"):
        assert shown_on(client, path) == first, path
        assert client.cookies == {}, path
    repeats = client.get("/induction").text
    assert "The prompt at hand is not read here" in repeats
    led = re.search(r'href="(/induction[?][^"]*kind=text[^"]*)"', repeats)
    assert led
    assert shown_on(client, html.unescape(led[1])) == first


@pytest.mark.parametrize("path", ["/nullspace?k=3&layer=0", "/frequency?neuron=1.3", f"/m/{MODEL}/n/1.3?k=3"])
def test_a_prompt_at_hand_that_does_not_fit_spoils_nothing_else(client: TestClient, path: str) -> None:
    """The example that every page starts from is longer than the 40 tokens that these tests allow."""
    client.cookies.clear()
    assert client.get(f"/api/v1/models/{MODEL}/neurons").is_success
    page = client.get(path)
    assert page.status_code == 200
    assert page.text.count("limit_tokens") == ("/n/" not in path)  # there what is about a text comes by itself
    if "k=" in path and "/n/" not in path:
        assert 'id="k-now" class="mono">3<' in page.text
    if "/n/" not in path:
        assert client.get(f"{path}&text={'x' * 50}").status_code == 422  # asked for in so many words


def test_a_page_says_where_it_shows_the_sample(client: TestClient) -> None:
    """To a program and to a reader, who has no prompt at hand, and where a box was emptied."""
    client.cookies.clear()
    assert client.get(f"/api/v1/models/{MODEL}/neurons").is_success
    said = "The beginning of the sample text"
    for path in ("/nullspace", "/frequency", f"/m/{MODEL}/n/1.3"):
        sent = {"HX-Request": "true", "HX-Target": "section#live"} if "/n/" in path else {}
        assert said in client.post(path, data={"text": ""}, headers=sent).text, path
        assert said not in client.post(path, data={"text": TEXT}, headers=sent).text, path


def test_programs_have_no_session(client: TestClient) -> None:
    client.cookies.clear()
    alone = client
    alone.post("/why", data={"text": TEXT})
    assert TEXT in alone.get("/why").text
    assert TEXT not in alone.get("/why", params={"format": "json"}).text
    client.cookies.clear()
    assert COOKIE not in alone.post("/why?format=json", data={"text": TEXT}).cookies


def test_back_and_reload_bring_the_text_of_the_address(client: TestClient) -> None:
    client.cookies.clear()
    alone = client
    htmx = {"HX-Request": "true", "HX-Target": "div#why"}
    address = alone.post("/why", data={"text": TEXT}, headers=htmx).headers["hx-push-url"]
    assert "cat" not in address
    alone.post("/why", data={"text": "a dog sat there"}, headers=htmx)
    assert TEXT in alone.get(address).text
    client.cookies.clear()
    assert TEXT not in alone.get(address).text


def test_another_model_brings_no_position_and_no_neurons_along() -> None:
    """3.62 of one model is nobody in particular in another; text and pin, which names its own model, stay."""
    hand = AtHand(fields(do="1.3:mean", watch="1.3", pos="2", pin="kept"))
    same = hand.into(at_hand.FIELDS, {"model": "tiny"})
    assert same == {**fields(), "do": "1.3:mean", "watch": "1.3", "pos": "2", "pin": "kept"}
    assert hand.into(at_hand.FIELDS, {"model": "other"}) == {"model": "other", "text": TEXT, "pin": "kept"}
