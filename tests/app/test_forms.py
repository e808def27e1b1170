"""Every form of every page, with hostile values in every field: never a 500; what is refused is said beside its form,
with what was typed still in it and all else on the page standing; and the next good request works.

The forms and their fields are read out of the pages, so a new one is tried without anybody listing it; that no page and
no action is missed is a test, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest
from starlette.routing import Match, Route
from starlette.testclient import TestClient

from app.core import pages
from app.families import FAMILIES
from tests.app.forms import WRITTEN, Button, Form, Page
from tests.app.test_induction_pages import wait
from tests.app.test_sweep_api import finished, started
from tests.app.words import foreign

TEXT = "the cat sat on the mat, and the cat sat"
REPEATED = "the cat sat"
HTML = {"accept": "text/html,application/xhtml+xml"}
HOSTILE = ("²", "9.9999", "<b>\0\"'")
NUMBERS = ("²", "-1", "9" * 25)
LONG = "a" * 25_000  # more characters than a prompt may have
FILES = (("none.jsonl", b"{"), ("none.txt", b"\xff\xfe\x00"), ("", b""))

# Actions that a form sends when its page is loaded as it is would change: a good request is not repeated there.
CHANGING = re.compile(r"^/(lab|share|models|sweeps$|sweeps/text|login|logout|jobs|r/)|/start$|/(cancel|resume|delete)$")
# Hidden fields whose content is shown, each piece with a button that takes it out.
CHIPS = {"do": "drop:", "watch": "unwatch:", "pin": "unpin"}
# What is shown of a field's value alone.
MADE_OF = {"clip": {"clip", "controls", "tokens"}}
# What a text is too long for is the whole answer: without the text there is no result on these pages.
ABOUT_ONE_TEXT = ("/", "/effects", "/why", "/induction")


@dataclass
class Place:
    """A page with forms: where it is, and what is sent to have it (a GET without)."""

    address: str
    form: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.address.partition("?")[0]

    def get(self, client: TestClient) -> Any:
        if self.form:
            return client.post(self.address, data=self.form, headers=HTML)
        return client.get(self.address, headers=HTML)


def places(made: dict[str, str]) -> dict[str, Place]:
    """Every page that has a form, and every state of it that has others."""
    neuron, ids = "/m/tiny-gpt2/n/1.3", made
    found = {
        "prompt": Place("/", {"text": TEXT, "do": "1.3:zero 0.2:mean", "watch": "1.5", "pos": "3"}),
        "prompt, empty": Place("/", {"text": " "}),
        "atlas": Place("/atlas"),
        "neuron": Place(neuron, {"text": TEXT}),
        "null space": Place("/nullspace", {"text": TEXT}),
        "frequency": Place("/frequency", {"text": TEXT}),
        "compare": Place("/compare"),
        **{f"effects {panel}": Place("/effects", {"text": TEXT, "panel": panel}) for panel in PANELS},
        "why": Place("/why", {"text": TEXT, "pos": "3"}),
        "write": Place("/write", {"text": TEXT, "n": "2"}),
        "induction": Place("/induction", {"kind": "text", "text": REPEATED, "controls": "1", "clip": "1.3"}),
        **{f"induction {name}": Place(f"/induction/{name}", SMALL | more) for name, more in LAB.items()},
        "induction job": Place(f"/induction/jobs/{ids['job']}"),
        "sweeps": Place("/sweeps"),
        "sweep": Place(f"/sweeps/{ids['sweep']}"),
        "figures": Place(f"/sweeps/{ids['sweep']}/figures/1"),
        "calibration": Place(f"/sweeps/{ids['sweep']}/calibration?rows=1&controls=1"),
        "two sweeps": Place(f"/sweeps/compare?a={ids['sweep']}&b={ids['other']}"),
        "lab": Place("/lab"),
        "note": Place(f"/lab/notes/{ids['note']}"),
        "permalink": Place(f"/r/{ids['result']}?plain=true"),
        "login": Place("/login"),
        "models": Place("/models"),
        "jobs": Place("/jobs"),
    }
    return found


PANELS = ("heatmap", "joint", "dose", "ledger")
SMALL = {"kind": "random", "rows": "1", "length": "6", "queries": "2", "random": "0", "neurons": "1.3"}
LAB = {"heads": {}, "who": {"who": "1.3"}, "ablation": {"heads": "0.1"}, "natural": {}}
NAMES = tuple(places(dict.fromkeys(("job", "sweep", "other", "note", "result"), "")))


@pytest.fixture(scope="module")
def made(client: TestClient) -> dict[str, str]:
    """Ids of what must be there for some pages: two sweeps, a note, a list, a pin, a permalink, a job."""
    client.get("/atlas", headers=HTML)
    sweep, other = started(client), started(client, rows=1)
    for name in (sweep, other):
        finished(client, name)
    note = client.post("/api/v1/notes", json={"target": "neuron:tiny-gpt2/1.3", "text": "first"}).json()
    client.post("/api/v1/lists", json={"name": "A list", "model": "tiny-gpt2", "neurons": ["1.3"]})
    client.post("/api/v1/pins", json={"target": "neuron:tiny-gpt2/1.3"})
    answer = client.post("/api/v1/models/tiny-gpt2/joint?store=true", json={"text": TEXT, "neurons": ["1.3"]}).json()
    body = {"kind": "random", "rows": 1, "length": 6, "heads": ["0.1"], "neurons": ["1.3"], "queries": 2}
    job = client.post("/api/v1/models/tiny-gpt2/induction/ablation/jobs", json=body).json()
    wait(client, job["id"])
    result = answer["permalink"].rpartition("/")[2]
    return {"sweep": sweep, "other": other, "note": note["id"], "job": job["id"], "result": result}


class Undrawn:
    """In the place of a figure: drawing takes most of the time, and is tried elsewhere with good values."""

    def to_json(self) -> str:
        return "{}"


@pytest.fixture(autouse=True)
def somebody_new(client: TestClient) -> None:
    """Nobody has the hostile texts of another test at hand."""
    client.cookies.clear()


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = pages._page

    def page(request: Any, title: str, figures: dict[str, Any], model: str | None, **more: Any) -> pages.Page:
        return drawn(request, title, dict.fromkeys(figures, Undrawn), model, **more)

    monkeypatch.setattr(pages, "_page", page)


def routes(method: str) -> list[Route]:
    """Of every family of the program."""
    families = (import_module(family).router for family in FAMILIES)
    return [route for router in families for route in router.routes if method in route.methods]


def page_of(response: Any) -> Page:
    return Page(response.text)


@dataclass
class Door:
    """One way a form is sent: by which button, in the browser's own way or (with a target) by htmx."""

    form: Form
    action: str
    button: Button | None = None
    target: str | None = None

    def send(self, client: TestClient, place: Place, values: dict[str, Any], files: Any = None) -> Any:
        headers = {**HTML, "referer": f"http://testserver{place.address}"}
        if self.target:
            headers |= {"HX-Request": "true", "HX-Target": f"div#{self.target}", "HX-Source": "button#pressed"}
        pressed = {self.button.name: self.button.value} if self.button and self.button.name else {}
        values = {**values, **{name: value for name, value in pressed.items() if name not in values}}
        if self.form.method == "get":
            return client.get(self.action, params=values, headers=headers, follow_redirects=False)
        return client.post(self.action, data=values, files=files, headers=headers, follow_redirects=False)


def doors(form: Form) -> Iterator[Door]:
    """Each action of a form once natively, and once for each target of htmx; a button stands for its kind."""
    seen: set[tuple[str, str]] = set()
    for button in (None, *form.buttons):
        action = (button.action if button else None) or form.action
        kind = (action, button.value.partition(":")[0] if button and button.name == "act" else "")
        if kind not in seen and not (button is None and form.buttons and all(b.action for b in form.buttons)):
            seen.add(kind)
            yield Door(form, action, button)


def hostile(name: str, kind: str) -> tuple[str, ...]:
    """What is written can be anything; what is chosen or hidden, only by somebody who means it: fewer values do."""
    if kind not in WRITTEN:
        return HOSTILE[: 1 if kind == "select" else 2]
    if kind == "number":
        return NUMBERS
    return (*HOSTILE, LONG) if name == "text" else HOSTILE


def is_offered(value: str, kind: str) -> bool:
    """Whether a person could have typed it there (what is chosen or hidden cannot be)."""
    return kind in WRITTEN and "\0" not in value


@pytest.mark.parametrize("name", NAMES)
def test_no_value_in_any_field_breaks_the_page(client: TestClient, made: dict[str, str], name: str) -> None:
    place = places(made)[name]
    before = place.get(client)
    assert before.status_code == 200, before.text[:500]
    stood = page_of(before)
    opened = page_of(client.get(place.address, headers=HTML))  # what a form without a text leads back to
    tries = [
        (Door(form, form.action), each.name, each.kind, value)
        for form in stood.forms
        for each in form.fields
        if each.kind not in ("file", "password")
        for value in hostile(each.name, each.kind)
    ]
    stays = [door.form.method == "post" and door.action == place.path and value != LONG for door, _, _, value in tries]
    to_itself = [one for one, its_own in zip(tries, stays, strict=True) if its_own]
    others = [one for one, its_own in zip(tries, stays, strict=True) if not its_own]
    found = _failures(client, place, stood, to_itself) + _failures(client, place, opened, others)
    assert "\n".join(found) == ""


@pytest.mark.parametrize("name", NAMES)
def test_no_button_with_a_wrong_value_breaks_the_page(client: TestClient, made: dict[str, str], name: str) -> None:
    place = places(made)[name]
    stood = page_of(place.get(client))
    tries = []
    for form in stood.forms:
        kinds = {(b.name, b.value.partition(":")[0] if ":" in b.value else ""): b for b in form.buttons if b.name}
        for (button, verb), pressed in kinds.items():
            for wrong in HOSTILE[:2]:
                value = f"{verb}:{wrong}" if verb else wrong
                tries.append((Door(form, pressed.action or form.action), button, "button", value))
    assert "\n".join(_failures(client, place, stood, tries)) == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_other_action_of_a_form_refuses_as_well(client: TestClient, made: dict[str, str], name: str) -> None:
    """Buttons that send their form elsewhere (a download, a share, a panel of its own): one wrong value each."""
    place = places(made)[name]
    stood = page_of(place.get(client))
    for form in stood.forms:
        for action in {button.action for button in form.buttons if button.action} - {form.action}:
            if not CHANGING.search(action):
                for each in (each for each in form.fields if each.kind in WRITTEN):
                    answer = Door(form, action).send(client, place, form.values() | {each.name: "9.9999"})
                    assert answer.status_code < 500, (action, each.name, answer.text[:300])


def _failures(client: TestClient, place: Place, stood: Page, tries: list[tuple[Door, str, str, str]]) -> list[str]:
    """What went wrong, all of it: one fault has relatives. What follows a refusal is tried once for each field."""
    found = []
    followed: set[tuple[str, str]] = set()
    for door, name, kind, value in tries:
        try:
            if _try(client, place, stood, door, name, kind, value, follow=(door.action, name) not in followed):
                followed.add((door.action, name))
        except AssertionError as error:
            found.append(str(error)[:700])
    return found


def _try(
    client: TestClient, place: Place, stood: Page, door: Door, name: str, kind: str, value: str, *, follow: bool
) -> bool:
    """One value in the browser's own way; after a refusal (then true) also by htmx, and a good request."""
    where = f"{door.form.method} {door.action} {name}={value[:30]!r}"
    values = {**door.form.values(), name: value}
    answer = door.send(client, place, values)
    assert answer.status_code < 500 or answer.status_code == 503, (where, answer.text[:400])
    if answer.status_code < 400:
        return False
    assert answer.headers["content-type"].startswith("text/html"), where
    assert foreign(re.sub("<[^>]*>", " ", answer.text)) == [], where  # what is read, not how a field is spelled
    page = page_of(answer)
    assert page.alerts, (where, answer.text[-600:])
    if kind not in WRITTEN and kind != "select" and door.action.partition("?")[0] != place.path:
        return True  # what leads to another page, by a value that nobody can write
    if kind in WRITTEN or kind == "select":
        _stands(page, stood, place, name, value, where)
    again = page.again(door.form)
    assert again is not None, where
    if is_offered(value, kind):
        assert again.alerts, (where, "is not said beside the form")
        shown = {each.name: each.value for each in again.fields}
        assert shown[name].replace("\r\n", "\n") == value.replace("\r\n", "\n"), (where, shown[name])
    boxes = {each.name for form in page.forms for each in form.fields if each.kind in WRITTEN}
    if name in CHIPS and name not in boxes:  # what stands in a box is taken out there
        assert any(button.value.startswith(CHIPS[name]) for button in again.buttons), (where, "cannot be taken out")
    elif kind == "hidden" and not CHANGING.search(door.action):
        assert value not in [each.value for each in again.fields if each.name == name], (where, "came into the state")
    if not follow:
        return True
    _in_place(client, place, door, values, where)
    if not CHANGING.search(door.action):
        good = door.send(client, place, {**again.values(), name: door.form.values().get(name, "")})
        assert good.status_code < 400, (where, "the next good request", good.text[:500])
    return True


def _stands(page: Page, stood: Page, place: Place, name: str, value: str, where: str) -> None:
    if (value == LONG and place.address in ABOUT_ONE_TEXT) or place.address.startswith("/induction/"):
        return  # the result is of what was refused, and there is no other
    gone = (stood.sections | stood.charts) - (page.sections | page.charts) - MADE_OF.get(name, set())
    assert not gone, (where, gone)


def _in_place(client: TestClient, place: Place, door: Door, values: dict[str, str], where: str) -> None:
    """By htmx: the message alone, marked as a refusal, so that nothing on the page is replaced (static/app.js)."""
    target = door.form.target
    if target is None or target.startswith(("this", "next")):
        return
    answer = Door(door.form, door.action, target=target).send(client, place, values)
    assert answer.status_code >= 400, where
    page = page_of(answer)
    assert page.alerts, where
    if "HX-Refusal" not in answer.headers:  # a part of the page in its whole, with the form and what was typed in it
        assert stands_whole(answer.text, target), where
        return
    assert (page.forms, page.sections, page.charts) == ([], set(), set()), where


def stands_whole(html: str, target: str) -> bool:
    return f'id="{target}"' in html


@pytest.mark.parametrize("name", ["sweeps", "lab"])
def test_a_file_that_cannot_be_read_is_said_beside_its_form(
    client: TestClient, made: dict[str, str], name: str
) -> None:
    place = places(made)[name]
    stood = page_of(place.get(client))
    forms = [form for form in stood.forms if any(each.kind == "file" for each in form.fields)]
    assert len(forms) == 1
    for file in FILES:
        answer = Door(forms[0], forms[0].action).send(client, place, {}, {"file": file})
        assert 400 <= answer.status_code < 500, answer.text[:300]
        page = page_of(answer)
        again = page.again(forms[0])
        assert again is not None
        assert again.alerts == 1
        assert stood.sections <= page.sections


def test_every_page_of_the_program_that_has_a_form_is_tried(client: TestClient, made: dict[str, str]) -> None:
    """Pages come from the routes; a page family whose template has a form must be among the places."""
    tried = {place.path for place in places(made).values()}
    found = [route for route in routes("GET") if not re.match(r"/(api/|healthz|readyz|metrics)", route.path)]
    assert len(found) > 25
    missed = []
    for route in found:
        scopes = ({"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []} for path in tried)
        if not any(route.matches(scope)[0] is Match.FULL for scope in scopes):
            missed.append(route.path)
    assert set(missed) == WITHOUT_FORMS


WITHOUT_FORMS = {
    "/selfcheck",  # no form
    "/docs",  # no form
    "/tour",  # sliders, no form
    "/docs/{name}",
    "/sweeps/{sweep_id}/neurons/{neuron}",  # no form
    "/sweeps/{sweep_id}/figures",  # the form of one figure, many times
    "/atlas/{neuron}",  # the neuron's page by a shorter name
    "/why/runs/{name}",  # the form of the page Why, beside an answer in the making
    "/why/jobs/{kind}/{job_id}",
    "/write/jobs/{job_id}",  # the form of the page Write, beside what a job has written
    "/effects/heatmap/{name}",  # a part of a page that asks for itself
    "/m/{model}/atlas-progress",
    "/lab/export",  # files
    "/r/{name}/notebook.ipynb",
    "/r/{name}/page.html",
}


def test_every_action_of_the_program_is_one_of_a_form_that_is_tried(client: TestClient, made: dict[str, str]) -> None:
    sent: set[str] = set()
    for place in places(made).values():
        page = page_of(place.get(client))
        sent |= page.asking | {form.path for form in page.forms if form.method == "post"}
        sent |= {(b.action or "").partition("?")[0] for form in page.forms for b in form.buttons}
    missed = set()
    for route in routes("POST"):
        scopes = ({"type": "http", "method": "POST", "path": path, "root_path": "", "headers": []} for path in sent)
        if not route.path.startswith("/api/") and not any(route.matches(s)[0] is Match.FULL for s in scopes):
            missed.add(route.path)
    assert missed == UNSEEN


UNSEEN = {
    "/logout",  # on the lab page of somebody who has logged in: no field
    "/models/{key}/unload",  # where there are two models: no field
    "/jobs/{job_id}/cancel",  # while a job runs: no field
    "/induction/jobs/{job_id}/cancel",
    "/sweeps/{sweep_id}/cancel",
    "/sweeps/{sweep_id}/resume",
    "/sweeps/texts/{text_id}/delete",  # where a text was uploaded: no field (tests/app/test_storage.py)
    "/sweeps/{sweep_id}/share",  # of a finished sweep that is not stored yet: no field
    "/atlas/{neuron}",  # the neuron's page by a shorter name
}
