"""The forms of a page, read out of its HTML: fields as a browser would send them, and where refusals stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

WRITTEN = ("text", "number", "textarea", "search")  # kinds of fields that a person writes into


@dataclass
class Field:
    name: str
    kind: str
    value: str = ""


@dataclass
class Button:
    name: str
    value: str
    action: str | None
    target: str | None


@dataclass
class Form:
    """target: the id of what an answer to htmx replaces; None for a form that htmx leaves to the browser."""

    action: str
    method: str
    encoding: str
    target: str | None
    fields: list[Field] = field(default_factory=list)
    buttons: list[Button] = field(default_factory=list)
    alerts: int = 0  # in it, or in the place for refusals directly after it

    @property
    def path(self) -> str:
        return self.action.partition("?")[0]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(each.name for each in self.fields)

    def values(self) -> dict[str, str]:
        """What a browser sends when no button has a name."""
        return {each.name: each.value for each in self.fields if each.kind not in ("checkbox", "file")}


def _button(given: dict[str, str]) -> Button:
    target = given.get("hx-target", "").removeprefix("#") or None
    return Button(given.get("name", ""), given.get("value", ""), given.get("formaction"), target)


class Page(HTMLParser):
    """forms; ids of sections; charts; what asks by itself (hx-post, hx-get) with its target; whether anything is an
    alert."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.sections: set[str] = set()
        self.charts: set[str] = set()
        self.asking: set[str] = set()
        self.alerts = 0
        self._named: dict[str, Form] = {}
        self._apart: list[tuple[str, Button]] = []  # buttons of a form that they do not stand in
        self._form: Form | None = None
        self._last: Form | None = None
        self._select: Field | None = None
        self._text: Field | None = None
        self._slot = 0  # depth within a .refused that directly follows a form
        self.feed(html)
        for name, button in self._apart:
            if name in self._named:  # a part of a page may hold a button whose form stands on the page already
                self._named[name].buttons.append(button)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._note(tag, given)
        if self._slot and tag in ("div", "p"):
            self._slot += tag == "div"
        if tag == "form":
            self._form = Form(
                given.get("action", ""),
                given.get("method", "get").lower(),
                given.get("enctype", ""),
                given["hx-target"].removeprefix("#") if "hx-target" in given else None,
            )
            self.forms.append(self._form)
            self._named[given.get("id", "")] = self._form
        elif tag == "button" and "form" in given:
            self._apart.append((given["form"], _button(given)))
        elif self._form is not None:
            self._control(tag, given)
        elif self._last is not None and tag == "div":
            if "refused" in given.get("class", "").split():
                self._slot = 1
            self._last = self._last if self._slot else None

    def _note(self, tag: str, given: dict[str, str]) -> None:
        if tag == "section" and "id" in given:
            self.sections.add(given["id"])
        if "data-chart" in given:
            self.charts.add(given["data-chart"])
        self.asking.update(given[name].partition("?")[0] for name in ("hx-post", "hx-get") if name in given)
        if given.get("role") == "alert":
            self.alerts += 1
            owner = self._form or (self._last if self._slot else None)
            if owner is not None:
                owner.alerts += 1

    def _control(self, tag: str, given: dict[str, str]) -> None:
        assert self._form is not None
        if tag == "button" or (tag == "input" and given.get("type") == "submit"):
            self._form.buttons.append(_button(given))
            return
        if tag == "option" and self._select is not None:
            if not self._select.value or "selected" in given:
                self._select.value = given.get("value", self._select.value)
            return
        if tag not in ("input", "select", "textarea") or not given.get("name"):
            return
        kind = given.get("type", "text") if tag == "input" else tag
        if kind == "radio":
            known = next((each for each in self._form.fields if each.name == given["name"]), None)
            if known is not None:
                known.value = given["value"] if "checked" in given else known.value
                return
        made_field = Field(given["name"], kind, given.get("value", ""))
        self._form.fields.append(made_field)
        self._select = made_field if tag == "select" else self._select
        self._text = made_field if tag == "textarea" else self._text

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.value += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form, self._last = None, self._form
        elif tag == "select":
            self._select = None
        elif tag == "textarea" and self._text is not None:
            self._text.value = self._text.value.removeprefix("\n")
            self._text = None
        elif tag == "div" and self._slot:
            self._slot -= 1
            self._last = self._last if self._slot else None

    def again(self, form: Form) -> Form | None:
        """The same form on this page."""
        same = [each for each in self.forms if each.path == form.path and each.method == form.method]
        return max(same, key=lambda each: len(each.names & form.names), default=None)
