"""A view rendered as page, fragment, JSON or CSV; an error likewise. The only place that knows htmx's headers.

One URL gives all of them: `?format=json|csv|parquet` or an Accept header chooses data; a request of htmx whose target
is `#spectrum` gets the block `spectrum` of the page's template alone; everything else gets the page. So a fragment
cannot differ from its page.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, get_args
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from analysis.shipped import shipped
from app.core import at_hand, documents
from app.core import format as formatted
from app.core.access.roles import REFUSED
from app.core.code import Server
from app.core.column import value
from app.core.csv import as_csv, as_parquet, table
from app.core.drawn import Drawn
from app.core.errors import API_HINT, FORM_HINT, Failure, failure_of
from app.core.escape import visible
from app.core.navigation import PAPER, SECTIONS, Section
from app.core.packed import fitting
from app.core.permalink_view import PermalinkView
from app.core.place import named_text
from app.core.request import PageFormat
from app.core.theme import plotly_js, plotly_packed

TEMPLATES, STATIC = shipped("templates"), shipped("static")

# Request headers of htmx 4, and the response headers in use.
REQUEST, TARGET, KIND, RESTORE = "HX-Request", "HX-Target", "HX-Request-Type", "HX-History-Restore-Request"
SOURCE = "HX-Source"
PUSH, REPLACE, REFUSAL = "HX-Push-Url", "HX-Replace-Url", "HX-Refusal"
VARY = f"{REQUEST}, {TARGET}, {KIND}, Accept"


class Figure(Protocol):
    """What the charts of a subject return: anything that writes itself as Plotly JSON."""

    def to_json(self) -> str: ...


NOWHERE = Server("")  # of a page in a file, which offers no Python


@dataclass(frozen=True)
class Refused:
    """A form that was sent and refused; its page shows the reason where the form stands, with what was typed.

    action: where it was sent, below the root. blamed: its fields that the reason is about.
    """

    action: str
    sent: Mapping[str, str]
    failure: Failure
    blamed: frozenset[str]
    told: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """What a template knows beside its view."""

    title: str
    path: str
    query: tuple[tuple[str, str], ...]
    root: str
    nav: tuple[Section, ...]
    figures: Mapping[str, Callable[[], Figure]]
    model: str | None = None
    shares: bool = False
    server: Server = NOWHERE
    refused: Refused | None = None
    hand: at_hand.AtHand | None = None
    """What the bar shows; None on a page in a file."""
    default_model: str = ""
    """The model that is meant where nobody has chosen one."""
    runs: bool = False
    """Whether the bar's buttons belong to the page's own form (`run`), as on the prompt page."""

    def url(self, path: str, **query: Any) -> str:
        """A link inside the program, with the proxy's prefix and without empty parameters."""
        pairs = _pairs(query)
        return self.root + path + ("?" + urlencode(pairs) if pairs else "")

    def here(self, **changes: Any) -> str:
        """This page's address with some parameters changed (None removes one)."""
        pairs = [(name, value) for name, value in self.query if name not in changes] + _pairs(changes)
        return self.root + self.path + ("?" + urlencode(pairs) if pairs else "")

    @property
    def only_here(self) -> bool:
        """Whether this page's address names the reader's own machine, so that nobody else can open it."""
        host = urlsplit(self.server.base).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    @property
    def back(self) -> str:
        """This page's address below the root, where it can be opened again: a page that answers a form is its path."""
        return self.path + ("?" + urlencode(self.query) if self.query else "")

    @property
    def section(self) -> Section | None:
        """The part of the navigation that this page belongs to."""
        return next((section for section in self.nav if section.holds(self.path)), None)

    def python(self, field: str, form: Mapping[str, Any] | None = None) -> str:
        """Code that reads one field of this page's JSON; `form` is what was asked for in a body, not in the address."""
        return self.server.page(self.path, self.query, form, field)

    def refuses(self, *actions: str) -> bool:
        """Whether a form with one of these actions (without any: this page's own) was refused."""
        return self.refused is not None and self.refused.action in (actions or (self.path,))

    def typed(self, name: str, value: Any, *actions: str) -> Any:
        """What somebody typed into this field of a form that was refused; else `value`."""
        return self.refused.sent.get(name, value) if self.refused and self.refuses(*actions) else value

    def refusal(self, actions: Iterable[str] = (), fields: Iterable[str] = ()) -> Failure | None:
        """Why a form with one of these actions was refused; with `fields`, if it is about one of them. Once only."""
        found, names = self.refused, frozenset(fields)
        if found is None or found.told or not self.refuses(*actions):
            return None
        if names and found.blamed.isdisjoint(names):
            return None
        found.told.append(found.failure)
        return found.failure

    def unplaced(self) -> Failure | None:
        """Why a form was refused for which the page had no place; asked last."""
        return self.refused.failure if self.refused and not self.refused.told else None

    def static(self, name: str) -> str:
        return f"{self.root}/static/{name}?v={_digest(STATIC / name)}"

    def plotly(self) -> str:
        return f"{self.root}/static/plotly/{plotly_js()[1]}/plotly.min.js"


def respond(
    request: Request,
    view: BaseModel,
    *,
    template: str,
    title: str,
    figures: Mapping[str, Callable[[], Figure]] | None = None,
    model: str | None = None,
    status: int = 200,
    push: str | None = None,
    replace: str | None = None,
    hand: at_hand.AtHand | None = None,
    runs: bool = False,
) -> Response:
    """`view` in the form that the request wants.

    hand: what the bar shows, where it is not what this session has at hand; `runs` as of `Page`.

    `push` or `replace` is the address that the browser shows after an htmx request, as a new entry of its history or in
    place of the current one.
    """
    wanted = format_of(request)
    headers = {"Vary": VARY}
    if wanted == "json":
        return Drawn(view.model_dump_json, status, headers, "application/json")
    if wanted in ("csv", "csv-raw"):
        headers["Content-Disposition"] = f'attachment; filename="{Path(template).stem}.csv"'
        table_of = partial(as_csv, view, raw=wanted == "csv-raw")
        return Drawn(table_of, status, headers, "text/csv; charset=utf-8")
    if wanted == "parquet":
        headers["Content-Disposition"] = f'attachment; filename="{Path(template).stem}.parquet"'
        return Drawn(partial(as_parquet, view), status, headers, "application/vnd.apache.parquet")
    if REQUEST in request.headers:
        headers |= {name: to for name, to in ((PUSH, push), (REPLACE, replace)) if to is not None}

    def make() -> str:
        page = _page(request, title, figures or {}, model, hand=hand, runs=runs)
        block = fragment_of(request)
        html = _render(template, block, view=view, page=page)
        # static/app.js puts a part that comes along where it belongs.
        bar = _render("state.html", "bar", page=page) if block and at_hand.changed(request) else ""
        return f'{html}<template data-replaces="state">{bar}</template>' if bar else html

    return at_hand.hand_over(request, Drawn(make, status, headers, "text/html"))


def server(request: Request) -> Server:
    """This server as whoever asks sees it."""
    return Server(str(request.base_url).rstrip("/"), keyed=request.app.state.gate.keyed)


def format_of(request: Request) -> PageFormat:
    """html, unless the query or the Accept header says otherwise; under /api it is always json."""
    asked = request.query_params.get("format")
    if asked in get_args(PageFormat) and asked != "html":
        return asked  # type: ignore[return-value]
    accept = request.headers.get("accept", "")
    if request.scope["path"].removeprefix(request.scope.get("root_path", "")).startswith("/api/"):
        return "json"
    return "json" if "application/json" in accept and "text/html" not in accept else "html"


def gives_a_file(request: Request) -> bool:
    """Whether the answer is a table to keep, which is whole where no page of it is named."""
    return format_of(request) not in ("html", "json")


def fragment_of(request: Request) -> str | None:
    """The block that this request swaps in, or None for the whole page (a history restore always wants the page)."""
    headers = request.headers
    if REQUEST not in headers or RESTORE in headers or headers.get(KIND) == "full":
        return None
    _, _, target = headers.get(TARGET, "").partition("#")  # htmx 4 sends "section#spectrum"
    return target.replace("-", "_") or None


def fills_itself(request: Request) -> bool:
    """Whether a part of a page asks for its own content, as far as is known: what it shows so far is that it waits."""
    return request.headers.get(SOURCE) in (None, request.headers.get(TARGET))


def redirect(request: Request, path: str) -> Response:
    """To a page of ours, after a form; htmx is told by its own header, since it would follow a 303 in the target."""
    address = request.scope.get("root_path", "").rstrip("/") + path
    if REQUEST in request.headers:
        return at_hand.hand_over(request, Response(status_code=200, headers={"HX-Redirect": address}))
    return at_hand.hand_over(request, Response(status_code=303, headers={"Location": address}))


def standalone(view: PermalinkView, figures: Mapping[str, Callable[[], Figure]]) -> str:
    """A page of one file, for a paper's supplement: what was found in words, rounded for reading, with charts and the
    plotly.js that draws them; the full numbers stand in it as JSON, packed.

    Nothing in it is loaded from anywhere, which its own content security policy makes sure of.
    """
    page = Page(title="", path="/", query=(), root="", nav=(), figures=figures)
    numbers, digits = fitting(view.result, whole=True)
    return _render(
        "standalone.html",
        None,
        view=view,
        page=page,
        style=Markup((STATIC / "app.css").read_text("utf-8")),
        plotly=plotly_packed() if figures else None,
        numbers=Markup(numbers),
        digits=digits,
        scripts=[_inline((STATIC / "plots.js").read_text("utf-8"))],
    )


def handle_error(request: Request, exc: Exception) -> Response:
    """The one exception handler: the same error as JSON, page or fragment."""
    return render_failure(request, failure_of(exc))


def render_failure(request: Request, failure: Failure, *, place: str = "form") -> Response:
    """The error as JSON, as a page, or, for a part of a page, the message alone: static/app.js puts it into the
    `.refused` element that is called `place`, else the first in that part, and leaves all else on the page as it is."""
    headers = {**failure.headers, "Vary": VARY}
    if format_of(request) != "html":
        return JSONResponse(failure.body(), failure.status, headers)
    if failure.hint == API_HINT:  # an address that was typed has no form to be sent again
        failure = dataclasses.replace(failure, hint=FORM_HINT if request.method == "POST" else None)
    block = fragment_of(request) and "message"

    def make() -> str:
        return _render("error.html", block, view=failure, page=_page(request, "Error", {}, None))

    return Drawn(make, failure.status, headers | ({REFUSAL: place} if block else {}), "text/html")


def _page(
    request: Request,
    title: str,
    figures: Mapping[str, Callable[[], Figure]],
    model: str | None,
    *,
    hand: at_hand.AtHand | None = None,
    runs: bool = False,
) -> Page:
    root = request.scope.get("root_path", "").rstrip("/")
    return Page(
        title=title,
        path=request.scope["path"].removeprefix(root) or "/",
        query=tuple(request.query_params.multi_items()),
        root=root,
        nav=_nav(request.app),
        shares=_has(request.app, "POST", "/share"),
        server=server(request),
        refused=request.scope.get(REFUSED),
        figures=figures,
        model=model or request.query_params.get("model"),
        hand=hand or at_hand.of(request),
        default_model=request.app.state.host.default_key,
        runs=runs,
    )


@cache
def _nav(app: Starlette) -> tuple[Section, ...]:
    """The sections with the entries whose page this app has."""
    here = (
        dataclasses.replace(section, entries=tuple(entry for entry in section.entries if _has(app, "GET", entry.path)))
        for section in SECTIONS
    )
    return tuple(section for section in here if section.entries)


@cache
def _has(app: Starlette, method: str, path: str) -> bool:
    """Whether the app answers there. Asked by matching, since included routers do not list their paths."""
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes if not isinstance(route, Mount))


def _render(template: str, block: str | None, **context: Any) -> str:
    loaded = _environment().get_template(template)
    context["ui"] = _macros(context["page"].root)
    if block in loaded.blocks:
        return "".join(loaded.blocks[block](loaded.new_context(context)))
    return loaded.render(context)


@cache
def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update({name: getattr(formatted, name) for name in ("num", "signed", "percent", "size")})
    env.filters.update(visible=visible, cited=documents.cited)
    env.globals.update(named_text=named_text, value=value, figure_json=_figure_json, data_json=_data_json, table=table)
    env.globals["paper"] = PAPER
    return env


@cache
def _macros(root: str) -> Any:
    """The shared macros, whose links carry the proxy's prefix. A block rendered alone does not see what its page
    imports, so they stand in the context."""
    return _environment().get_template("macros.html").make_module({"root": root})


def _figure_json(page: Page, name: str) -> Markup:
    """A chart as data; in a file packed and rounded, for the reduced build, which has no WebGL."""
    drawn = page.figures[name]().to_json()
    if page.nav:
        return _script_safe(drawn)
    figure = json.loads(drawn)
    for trace in figure["data"]:
        trace["type"] = trace.get("type", "scatter").removesuffix("gl")
    return Markup(fitting(figure)[0])


def _data_json(value: Any) -> Markup:
    plain = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value, allow_nan=False)
    return _script_safe(plain)


def _script_safe(text: str) -> Markup:
    """JSON that may stand inside a script element: no `<`, so nothing can close it or open a comment."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _inline(script: str) -> Markup:
    """A script of ours that may stand inside a page; one that would end its element is refused."""
    assert not any(mark in script.lower() for mark in ("</script", "<script", "<!--"))
    return Markup(script)


def _pairs(query: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Query parameters, a list's items one by one, without what is None."""
    many = ((name, values if isinstance(values, list | tuple) else [values]) for name, values in query.items())
    return [(name, value) for name, values in many for value in values if value is not None]


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
