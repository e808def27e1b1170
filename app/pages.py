"""A view rendered as page, fragment, JSON or CSV; an error likewise. The only place that knows htmx's headers.

One URL gives all of them: `?format=json|csv|parquet` or an Accept header chooses data; a request of htmx whose target
is `#spectrum` gets the block `spectrum` of the page's template alone; everything else gets the page. So a fragment
cannot differ from its page.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles

from app.errors import Failure, failure_of
from app.figures.theme import plotly_js
from app.present import format as shown
from app.present.code import Server
from app.visible import visible

ROOT = Path(__file__).parent.parent
TEMPLATES, STATIC = ROOT / "templates", ROOT / "static"

# Request headers of htmx 4, and the response headers in use.
REQUEST, TARGET, KIND, RESTORE = "HX-Request", "HX-Target", "HX-Request-Type", "HX-History-Restore-Request"
PUSH, REPLACE = "HX-Push-Url", "HX-Replace-Url"
VARY = f"{REQUEST}, {TARGET}, {KIND}, Accept"

Format = Literal["html", "json", "csv", "parquet"]


class Figure(Protocol):
    """What app.figures returns: anything that writes itself as Plotly JSON."""

    def to_json(self) -> str: ...


@dataclass(frozen=True)
class NavEntry:
    """One page family in the navigation; shown where the app has a GET route with this path."""

    label: str
    path: str
    hint: str


NAV = (
    NavEntry("Prompt", "/", "Run a prompt, watch confidence, ablate neurons"),
    NavEntry("Atlas", "/atlas", "Every neuron by its weights"),
    NavEntry("Null space", "/nullspace", "The spectrum of the unembedding"),
    NavEntry("Frequency", "/frequency", "Token counts and the frequency direction"),
    NavEntry("Compare", "/compare", "Two models or checkpoints side by side"),
    NavEntry("Effects", "/effects", "Heatmap, joint sets, dose, LN ledger"),
    NavEntry("Sweeps", "/sweeps", "Effects over a corpus"),
    NavEntry("Induction", "/induction", "Repeated text"),
    NavEntry("Lab", "/lab", "Saved results, notes, lists"),
    NavEntry("Models", "/models", "What is loaded here"),
    NavEntry("Self-check", "/selfcheck", "Is what the pages say true of this model?"),
)


NOWHERE = Server("")  # of a page in a file, which offers no Python


@dataclass(frozen=True)
class Page:
    """What a template knows beside its view."""

    title: str
    path: str
    query: tuple[tuple[str, str], ...]
    root: str
    nav: tuple[NavEntry, ...]
    figures: Mapping[str, Callable[[], Figure]]
    model: str | None = None
    shares: bool = False
    server: Server = NOWHERE

    def url(self, path: str, **query: Any) -> str:
        """A link inside the program, with the proxy's prefix and without empty parameters."""
        pairs = _pairs(query)
        return self.root + path + ("?" + urlencode(pairs) if pairs else "")

    def here(self, **changes: Any) -> str:
        """This page's address with some parameters changed (None removes one)."""
        pairs = [(name, value) for name, value in self.query if name not in changes] + _pairs(changes)
        return self.root + self.path + ("?" + urlencode(pairs) if pairs else "")

    def python(self, field: str, form: Mapping[str, Any] | None = None) -> str:
        """Code that reads one field of this page's JSON; `form` is what was asked for in a body, not in the address."""
        return self.server.page(self.path, self.query, form, field)

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
) -> Response:
    """`view` in the form that the request wants.

    `push` or `replace` is the address that the browser shows after an htmx request, as a new entry of its history or in
    place of the current one.
    """
    wanted = format_of(request)
    headers = {"Vary": VARY}
    if wanted == "json":
        return Response(view.model_dump_json(), status, headers, "application/json")
    if wanted == "csv":
        headers["Content-Disposition"] = f'attachment; filename="{Path(template).stem}.csv"'
        return Response(as_csv(view), status, headers, "text/csv; charset=utf-8")
    if wanted == "parquet":
        headers["Content-Disposition"] = f'attachment; filename="{Path(template).stem}.parquet"'
        return Response(as_parquet(view), status, headers, "application/vnd.apache.parquet")
    if REQUEST in request.headers:
        headers |= {name: to for name, to in ((PUSH, push), (REPLACE, replace)) if to is not None}
    page = _page(request, title, figures or {}, model)
    return Response(_render(template, fragment_of(request), view=view, page=page), status, headers, "text/html")


def server(request: Request) -> Server:
    """This server as whoever asks sees it."""
    return Server(str(request.base_url).rstrip("/"), keyed=request.app.state.gate.closed)


def format_of(request: Request) -> Format:
    """html, unless the query or the Accept header says otherwise; under /api it is always json."""
    asked = request.query_params.get("format")
    if asked in ("json", "csv", "parquet"):
        return asked  # type: ignore[return-value]
    accept = request.headers.get("accept", "")
    if request.scope["path"].removeprefix(request.scope.get("root_path", "")).startswith("/api/"):
        return "json"
    return "json" if "application/json" in accept and "text/html" not in accept else "html"


def fragment_of(request: Request) -> str | None:
    """The block that this request swaps in, or None for the whole page (a history restore always wants the page)."""
    headers = request.headers
    if REQUEST not in headers or RESTORE in headers or headers.get(KIND) == "full":
        return None
    _, _, target = headers.get(TARGET, "").partition("#")  # htmx 4 sends "section#spectrum"
    return target.replace("-", "_") or None


def redirect(request: Request, path: str) -> Response:
    """To a page of ours, after a form; htmx is told by its own header, since it would follow a 303 in the target."""
    address = request.scope.get("root_path", "").rstrip("/") + path
    if REQUEST in request.headers:
        return Response(status_code=200, headers={"HX-Redirect": address})
    return Response(status_code=303, headers={"Location": address})


def standalone(view: BaseModel, figures: Mapping[str, Callable[[], Figure]]) -> str:
    """A page of one file, for a paper's supplement: tables, and charts with the plotly.js that draws them.

    Nothing in it is loaded from anywhere, which its own content security policy makes sure of.
    """
    page = Page(title="", path="/", query=(), root="", nav=(), figures=figures)
    files = (plotly_js()[0], STATIC / "plots.js") if figures else ()
    return _render(
        "standalone.html",
        None,
        view=view,
        page=page,
        style=Markup((STATIC / "app.css").read_text("utf-8")),
        scripts=[_inline(file.read_text("utf-8")) for file in files],
    )


def table(view: BaseModel) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) of what CSV would hold."""
    flat = [dict(_flatten(row)) for row in _rows_of(view)]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    return columns, [[row.get(name) for name in columns] for row in flat]


def handle_error(request: Request, exc: Exception) -> Response:
    """The one exception handler: the same error as JSON, page or fragment."""
    return render_failure(request, failure_of(exc))


def render_failure(request: Request, failure: Failure) -> Response:
    headers = {**failure.headers, "Vary": VARY}
    if format_of(request) != "html":
        return JSONResponse(failure.body(), failure.status, headers)
    # A target inside a page gets the message alone, so that it stands where its cause is.
    block = "message" if fragment_of(request) else None
    html = _render("error.html", block, view=failure, page=_page(request, "Error", {}, None))
    return Response(html, failure.status, headers, "text/html")


def as_csv(view: BaseModel) -> str:
    """The view's table: `csv_rows()` where it has one, else its `rows`; nested keys become dotted columns."""
    flat, columns = _table_of(view)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in flat)
    return out.getvalue()


def as_parquet(view: BaseModel) -> bytes:
    """The same table; numbers stay numbers, a column of several kinds becomes text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat, columns = _table_of(view)
    out = io.BytesIO()
    pq.write_table(pa.table({name: _column([row.get(name) for row in flat]) for name in columns}), out)
    return out.getvalue()


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    given = [value for value in values if value is not None]
    if any(isinstance(value, float) for value in given) and all(type(value) in (int, float) for value in given):
        return pa.array(values, pa.float64())
    if len({type(value) for value in given}) <= 1 and not any(isinstance(value, list | dict) for value in given):
        return pa.array(values)
    return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _table_of(view: BaseModel) -> tuple[list[dict[str, Any]], list[str]]:
    """Flat rows, and the columns in the order of their first appearance."""
    flat = [dict(_flatten(row)) for row in _rows_of(view)]
    return flat, list(dict.fromkeys(name for row in flat for name in row))


def _rows_of(view: BaseModel) -> Any:
    return view.csv_rows() if hasattr(view, "csv_rows") else view.model_dump(mode="json").get("rows", [])


def static_routes() -> list[BaseRoute]:
    """Our files, and plotly.js under a versioned address."""
    return [
        Route("/static/plotly/{version}/plotly.min.js", _plotly, methods=["GET", "HEAD"]),
        Mount("/static", _Cached(directory=STATIC), name="static"),
    ]


class _Cached(StaticFiles):
    """Addresses carry the content's hash, so what they name never changes."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


@cache
def _plotly_body() -> bytes:
    import gzip

    return gzip.compress(plotly_js()[0].read_bytes(), compresslevel=6)


def _plotly(request: Request) -> Response:
    if request.path_params["version"] != plotly_js()[1]:
        return Response(status_code=404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(_plotly_body(), 200, headers, "text/javascript")
    return Response(plotly_js()[0].read_bytes(), 200, headers, "text/javascript")


def _page(request: Request, title: str, figures: Mapping[str, Callable[[], Figure]], model: str | None) -> Page:
    root = request.scope.get("root_path", "").rstrip("/")
    return Page(
        title=title,
        path=request.scope["path"].removeprefix(root) or "/",
        query=tuple(request.query_params.multi_items()),
        root=root,
        nav=_nav(request.app),
        shares=_has(request.app, "POST", "/share"),
        server=server(request),
        figures=figures,
        model=model or request.query_params.get("model"),
    )


@cache
def _nav(app: Starlette) -> tuple[NavEntry, ...]:
    """The entries whose page this app has."""
    return tuple(entry for entry in NAV if _has(app, "GET", entry.path))


@cache
def _has(app: Starlette, method: str, path: str) -> bool:
    """Whether the app answers there. Asked by matching, since included routers do not list their paths."""
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes if not isinstance(route, Mount))


def _render(template: str, block: str | None, **context: Any) -> str:
    loaded = _environment().get_template(template)
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
    env.filters.update({name: getattr(shown, name) for name in ("num", "signed", "percent", "size")})
    env.filters["visible"] = visible
    env.globals.update(figure_json=_figure_json, data_json=_data_json, table=table)
    # A block rendered alone does not see what its page imports, so the shared macros are a global.
    env.globals["ui"] = env.get_template("macros.html").module
    return env


def _figure_json(page: Page, name: str) -> Markup:
    return _script_safe(page.figures[name]().to_json())


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


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value  # a spreadsheet would run it as a formula
    if isinstance(value, Iterable) and not isinstance(value, str):
        return json.dumps(value)
    return value


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
