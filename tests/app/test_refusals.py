"""What is refused never comes into the state of a page; what is in the state can always be seen and taken out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.forms import Page

TEXT = "the cat sat on the mat"
HTML = {"accept": "text/html"}
ADD = {"act": "add", "mode": "mean"}


def posted(client: TestClient, path: str = "/", target: str = "", **fields: str) -> Any:
    """As a browser sends the prompt page's form; with a target as htmx does."""
    htmx = {"HX-Request": "true", "HX-Target": target, "HX-Source": "form#run"} if target else {}
    body = fields if path != "/" and not path.startswith("/share") else {"text": TEXT, **fields}
    return client.post(path, data=body, headers={**HTML, **htmx}, follow_redirects=False)


def values(html: str, action: str = "/") -> dict[str, str]:
    return {k: v for form in Page(html).forms if form.path == action for k, v in form.values().items()}


@pytest.mark.parametrize(
    ("typed", "cause", "remedy"),
    [
        ({"neuron": "1.9999"}, "There is no neuron 1.9999", "neurons from 0 to 39"),
        ({"neuron": "1.3", "where": "5-900"}, "Positions 5-900 do not lie in this text", "run from 0 to"),
        ({"neuron": "1.3", "where": "7,900"}, "Positions 7,900", "run from 0 to"),
        ({"neuron": "1.3", "where": "a"}, "does not name positions", "counted from 0"),
        ({"neuron": "L9H9", "mode": "bos"}, "There is no head 9.9", "heads from 0 to"),
        ({"neuron": "1.3", "mode": "value"}, "needs a number", "beside"),
        ({"neuron": "1.3", "mode": "value", "value": "1e99"}, "value", "must be at most 1000000"),
        ({"neuron": "1.3", "mode": "clip", "min": "2", "max": "1"}, "min must not be greater", ""),
        ({"neuron": "a neuron that is none at all"}, "neuron must have at most 20 characters", "Correct it"),
    ],
)
def test_an_item_that_cannot_hold_is_refused_beside_its_field(
    client: TestClient, typed: dict[str, str], cause: str, remedy: str
) -> None:
    fields = {"do": "1.5:zero", **ADD, **typed}
    page = posted(client, **fields)
    assert page.status_code == 422
    form = page.text[page.text.index('class="add-form"') :].partition("</details>")[0]
    assert cause in form
    assert remedy in form
    kept = values(page.text)
    assert {name: kept[name] for name in typed} == typed
    assert (kept["do"], kept["text"]) == ("1.5:zero", TEXT)
    assert page.text.count('class="tok') > 10
    assert 'data-neuron="1.' in page.text
    assert 'value="drop:0"' in page.text
    part = posted(client, target="div#result", **fields)
    assert (part.status_code, part.headers["HX-Refusal"]) == (422, "add")
    assert cause in part.text
    assert "<section" not in part.text
    assert "HX-Push-Url" not in part.headers
    assert client.post("/?format=json", data={"text": TEXT, **fields}).json()["error"]["message"].count(cause) == 1
    assert posted(client, **{**kept, "neuron": "1.7", "where": "", "act": "add", "mode": "zero"}).status_code == 200


def test_a_bad_address_shows_its_items_and_runs_with_the_others(client: TestClient) -> None:
    address = {"text": TEXT, "do": "1.9999:mean 1.3:zero nonsense 0.2:zero@5-900", "watch": "1.5 7.7"}
    page = client.get("/", params=address, headers=HTML)
    assert page.status_code == 422
    for cause in ("There is no neuron 1.9999", "is not an intervention", "Positions 5-900", "There is no neuron 7.7"):
        assert cause in page.text
    assert [page.text.count(f'value="drop:{i}"') for i in range(4)] == [1, 1, 1, 1]
    assert 'value="unwatch:7.7"' in page.text
    assert 'data-chart="changes"' in page.text  # 1.3 is ablated
    fields = values(page.text)
    for act, left in (("drop:3", 3), ("drop:2", 2), ("drop:0", 1)):
        page = posted(client, **{**fields, "act": act})
        fields = values(page.text)
        assert len(fields["do"].split()) == left
    assert page.status_code == 422
    page = posted(client, **{**fields, "act": "unwatch:7.7"})
    assert (page.status_code, values(page.text)["do"], values(page.text)["watch"]) == (200, "1.3:zero", "1.5")
    assert client.get("/", params={**address, "format": "json"}).json()["error"]["code"] == "no_such_neuron"


def test_an_item_that_a_shorter_text_has_no_place_for_stays_and_is_named(client: TestClient) -> None:
    page = posted(client, text="the cat", do="1.3:zero@9 1.5:zero", act="run")
    assert page.status_code == 422
    assert "Positions 9 do not lie in this text: it has 7 tokens." in page.text
    assert values(page.text)["do"] == "1.3:zero@9 1.5:zero"
    assert posted(client, do="1.3:zero@9 1.5:zero", act="run").status_code == 200


@pytest.mark.parametrize(
    "refused", [{"find": "1.99"}, {"find": "0.3"}, {"find": "²"}, {"fcol": "nothing", "fmin": "1"}, {"fmin": "x"}]
)
def test_a_refused_filter_leaves_its_table_standing(client: TestClient, refused: dict[str, str]) -> None:
    page = posted(client, act="filter", **refused)
    assert page.status_code == 422
    panel = page.text[page.text.index('id="neurons"') :]
    assert panel.count("data-neuron=") == 25
    assert 'role="alert"' in panel.split("</section>")[0]
    shown = values(page.text)
    written = {name: value for name, value in refused.items() if name != "fcol"}
    assert {name: shown[name] for name in written} == written
    part = posted(client, target="section#neurons", act="filter", **refused)
    assert part.status_code == 422
    assert 'role="alert"' in part.text
    assert part.text.count("data-neuron=") == 25 or part.headers["HX-Refusal"] == "filter"


def test_half_a_neuron_in_one_box_stops_no_other_button(client: TestClient) -> None:
    typed = {"neuron": "1." + "9" * 40, "value": "x", "where": "("}
    for act in ("run", "pin", "sort:d_loss.total", "watch:1.3", "ablate:1.3", "filter"):
        assert posted(client, act=act, **typed).status_code == 200


def test_a_pinned_run_that_cannot_be_drawn_is_named_and_can_be_let_go(client: TestClient) -> None:
    pin = '{"model": "another", "text": "the dog", "bos": "", "do": "", "ln": ""}'
    for pinned, cause in ((pin, "is of another"), ("{", "cannot be read"), (pin.replace("another", ""), "")):
        page = posted(client, pin=pinned)
        assert (page.status_code, cause in page.text) == (422 if cause else 200, True)
        assert 'data-chart="curves"' in page.text
        assert 'value="unpin"' in page.text
    assert posted(client, pin=pin, act="unpin").status_code == 200


def test_what_cannot_be_shared_stays_on_its_page(client: TestClient) -> None:
    page = posted(client, "/share", text=TEXT, do="1.9999:mean 1.3:zero", watch="1.5")
    assert page.status_code == 422
    assert "There is no neuron 1.9999" in page.text
    fields = values(page.text)
    assert (fields["text"], fields["do"], fields["watch"]) == (TEXT, "1.9999:mean 1.3:zero", "1.5")
    assert posted(client, "/share", text=TEXT, do="1.3:zero").status_code == 303


@pytest.mark.parametrize("referer", [None, "http://testserver/atlas?layer=0&sort=rho"])
def test_a_refused_address_shows_the_page_that_its_form_stood_on(client: TestClient, referer: str | None) -> None:
    client.get("/atlas")
    headers = {**HTML, **({"referer": referer} if referer else {})}
    page = client.get("/atlas", params={"layer": "0", "sort": "rho", "neurons": "1.99"}, headers=headers)
    assert page.status_code == 422
    assert "There is no neuron 1.99" in page.text
    found = Page(page.text)
    assert {"map", "neurons"} <= found.sections
    beside = next(form for form in found.forms if form.target == "neurons")
    assert (beside.alerts, beside.values()["neurons"]) == (1, "1.99")
    rows = set(re.findall(r'/n/(\d)\.\d+"', page.text))
    assert rows == {"0"}  # the rest of what was asked stands


def test_a_refused_note_stays_on_the_page_that_it_was_written_on(client: TestClient) -> None:
    client.get("/atlas")
    note = {"target": "neuron:tiny-gpt2/1.3", "text": "half\0a note"}
    for referer, section in (("http://testserver/m/tiny-gpt2/n/1.3", "weights"), (None, "lists")):
        headers = {**HTML, **({"referer": referer} if referer else {})}
        page = client.post("/lab/notes", data=note, headers=headers)
        assert page.status_code == 422
        assert "text: holds a NUL character" in page.text
        assert "openapi" not in page.text
        found = Page(page.text)
        assert section in found.sections
        form = next(form for form in found.forms if form.path == "/lab/notes")
        assert (form.alerts, form.values()["text"]) == (1, note["text"])


def test_another_server_names_no_page_of_ours(client: TestClient) -> None:
    headers = {**HTML, "referer": "http://elsewhere.example/models"}
    page = client.post("/lab/notes", data={"target": "x", "text": ""}, headers=headers)
    assert page.status_code == 422
    assert "Lists of neurons" in page.text


def test_what_is_not_here_is_about_no_form(client: TestClient) -> None:
    page = client.get("/r/0000?plain=true", headers={**HTML, "referer": "http://testserver/lab"})
    assert page.status_code == 404
    assert "Not here" in page.text
