"""One call of each route that reaches its work, so that what holds for all routes can be tried on all of them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from starlette.testclient import TestClient

from tests.app.served import until
from tests.app.test_sweep_api import SMALL, finished, started

MODEL = "tiny-gpt2"
TEXT = "The secret cat sat."
M = f"/api/v1/models/{MODEL}"
ABLATION = {"heads": ["0.1"], "neurons": ["1.3"], "kind": "random", "rows": 2, "length": 8}
PANEL = {"kind": "random", "rows": 2, "length": 8, "who": "1.3", "heads": "0.1", "neurons": "1.3", "text": TEXT}
TAKEN_APART = {
    "why": ("why", {"text": TEXT}),
    "why_text": ("why/text", {"text": TEXT}),
    "circuit": ("circuit", {"text": TEXT, "component": "1.3"}),
}
DATA = ("html", "json", "csv", "parquet")


@dataclass(frozen=True)
class Call:
    """A request to one route. template: the route's own path; path: what is asked, with names of `prepared` in it."""

    method: str
    template: str
    path: str
    more: dict[str, Any]
    expected: tuple[int, ...] = (200, 201, 202, 204, 303)

    def ask(self, client: TestClient, names: dict[str, str]) -> Any:
        filled = {key: _filled(value, names) for key, value in self.more.items()}
        return client.request(self.method, self.path.format(**names), follow_redirects=False, **filled)


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, names) for key, item in value.items()}
    return value.format(**names) if isinstance(value, str) and value.startswith("{") else value


def get(template: str, path: str | None = None, **params: Any) -> Call:
    return Call("GET", template, path or template, {"params": params, "headers": {"accept": "text/html"}})


def post(template: str, path: str | None = None, **more: Any) -> Call:
    return Call("POST", template, path or template, {"headers": {"accept": "text/html"}, **more})


def refused(call: Call, status: int) -> Call:
    """A call that this little server answers so, after its work."""
    return replace(call, expected=(status,))


def pages() -> Iterator[Call]:
    """Every page in each of its forms."""
    for form in DATA:
        asked = {"format": form}
        yield get("/", text=TEXT, **asked)
        for path in ("/models", "/lab", "/jobs", "/sweeps", "/atlas", "/nullspace", "/frequency", "/compare"):
            yield get(path, **asked)
        yield get("/selfcheck", **asked)
        yield get("/docs", **asked)
        yield get("/tour", **asked)
        yield get("/docs/{name}", "/docs/methods", **asked)
        yield get("/login", **asked)
        yield get("/r/{name}", "/r/{trace}", **asked)
        yield get("/r/{name}", "/r/{page}", **asked)
        yield get("/r/{name}", "/r/{repeats}", **asked)
        yield get("/r/{name}", "/r/{kept_sweep}", **asked)
        yield get("/lab/notes/{name}", "/lab/notes/{note}", **asked)
        yield get("/m/{model}/n/{neuron}", f"/m/{MODEL}/n/1.3", **asked)
        yield get("/atlas/{neuron}", "/atlas/1.3", **asked)
        yield get("/induction", kind="random", rows=2, length=8, **asked)
        yield get("/induction", kind="text", text=TEXT, **asked)
        for panel in ("heads", "who", "ablation", "natural"):
            yield post("/induction/{panel}", f"/induction/{panel}?format={form}", data=PANEL)
        yield get("/induction/jobs/{job_id}", "/induction/jobs/{ablation}", **asked)
        yield get("/write/jobs/{job_id}", "/write/jobs/{dial}", **asked)
        for kind in TAKEN_APART:
            yield get("/why/jobs/{kind}/{job_id}", f"/why/jobs/{kind}/{{{kind}}}", **asked)
        yield get("/why/runs/{name}", "/why/runs/{taking_apart}", **asked)
        for panel in ("heatmap", "joint", "dose", "ledger", "lens"):
            yield post("/effects", f"/effects?format={form}", data={"text": TEXT, "panel": panel})
        yield post("/why", f"/why?format={form}", data={"text": TEXT, "along": "true"})
        yield post("/write", f"/write?format={form}", data={"text": TEXT, "n": "2"})
        yield post("/write", f"/write?format={form}", data={"text": TEXT, "n": "2", "panel": "dial", "d1": "1.3"})
        yield get("/effects/heatmap/{name}", "/effects/heatmap/{run}", **asked)
        yield get("/sweeps/compare", a="{sweep}", b="{sweep}", **asked)
        yield get("/sweeps/{sweep_id}", "/sweeps/{sweep}", **asked)
        yield get("/sweeps/{sweep_id}/figures/{name}", "/sweeps/{sweep}/figures/1", **asked)
        yield get("/sweeps/{sweep_id}/neurons/{neuron}", "/sweeps/{sweep}/neurons/1.3", **asked)
        yield get("/sweeps/{sweep_id}/calibration", "/sweeps/{sweep}/calibration", controls=1, rows=2, top=2, **asked)
    yield get("/sweeps/{sweep_id}/figures", "/sweeps/{sweep}/figures")
    yield get("/write")
    yield get("/m/{model}/atlas-progress", f"/m/{MODEL}/atlas-progress", to="/atlas")
    for path in ("/", "/effects", "/why"):
        yield get(path)
    yield get("/induction/{panel}", "/induction/heads", rows=2, length=8)
    yield get("/r/{name}/notebook.ipynb", "/r/{trace}/notebook.ipynb")
    yield get("/r/{name}/page.html", "/r/{trace}/page.html")
    yield get("/lab/export")
    yield get("/static/{path}", "/static/app.css")
    yield get("/static/plotly/{version}/plotly.min.js", "/static/plotly/{plotly}/plotly.min.js")


def reads() -> Iterator[Call]:
    """The API's GETs and what else only looks."""
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"):
        yield get(path)
    for name in ("results", "notes", "lists", "pins", "export", "queue", "jobs", "sweeps", "compare", "models"):
        yield get(f"/api/v1/{name}")
    for template, name in (
        ("results/{name}", "trace"), ("notes/{name}/history", "note"), ("lists/{name}", "list"),
        ("lists/{name}/history", "list"), ("jobs/{job_id}", "sweep"), ("sweeps/{sweep_id}", "sweep"),
    ):  # fmt: skip
        path = re.sub(r"{[^}]+}", "{" + name + "}", template)
        yield get(f"/api/v1/{template}", f"/api/v1/{path}")
    sweep, of = "/api/v1/sweeps/{sweep_id}", "/api/v1/sweeps/{sweep}"
    yield get("/api/v1/sweeps/compare", a="{sweep}", b="{sweep}")
    yield get(sweep + "/figures/{name}", of + "/figures/1")
    yield get(sweep + "/neurons/{neuron}", of + "/neurons/1.3")
    yield get(sweep + "/calibration", of + "/calibration", controls=1, rows=2, top=2)
    key = "/api/v1/models/{key}"
    yield get(key, M)
    for name in ("check", "neurons", "story", "spectrum", "nullspace", "frequency"):
        yield get(f"{key}/{name}", f"{M}/{name}")
    yield refused(get(f"{key}/reproduce", f"{M}/reproduce"), 404)
    yield get(key + "/neurons/{neuron}", f"{M}/neurons/1.3")
    yield get(key + "/neurons/{neuron}/sample", f"{M}/neurons/1.3/sample")
    job = "/induction/ablation/jobs/{job_id}"
    yield get(key + job, M + "/induction/ablation/jobs/{ablation}")
    yield get(key + "/dial/jobs/{job_id}", M + "/dial/jobs/{dial}")
    for kind, (path, _) in TAKEN_APART.items():
        yield get(f"{key}/{path}/jobs/{{job_id}}", f"{M}/{path}/jobs/{{{kind}}}")


def computes() -> Iterator[Call]:
    """What computes for the asker, and stores the answer."""
    key, text = "/api/v1/models/{key}", {"text": TEXT}
    for name, more in (
        ("tokens", {}), ("trace", {}), ("effects", {}), ("heatmap", {}), ("joint", {"neurons": ["1.3", "1.5"]}),
        ("dose", {"neurons": ["1.3"]}), ("ledger", {}), ("lens", {}), ("walk", {"direction": 3}),
        ("why", {}), ("why/text", {}), ("why/compare", {"position": 1, "other_position": 0}),
        ("circuit", {"component": "1.3"}),
        ("generate", {"max_new_tokens": 3}), ("frequency", {}),
        ("dial", {"max_new_tokens": 2, "dials": ["1.3:scale=2"]}),
    ):  # fmt: skip
        yield post(f"{key}/{name}", f"{M}/{name}", json={**text, **more})
    rows = {"kind": "random", "rows": 2, "length": 8}
    yield post(key + "/neurons/{neuron}", f"{M}/neurons/1.3", json=text)
    yield post(f"{key}/induction", f"{M}/induction", json=rows)
    yield post(f"{key}/heads", f"{M}/heads", json={"rows": 2, "length": 8})
    yield post(f"{key}/induction/attribution", f"{M}/induction/attribution", json={"neuron": "1.3", **rows})
    yield post(f"{key}/induction/ablation", f"{M}/induction/ablation", json=ABLATION)
    yield post(f"{key}/induction/natural", f"{M}/induction/natural", json=text)
    yield post("/", data=text)
    yield post("/count", data=text)
    yield post("/state", data={"act": "clear"})
    for path in ("/nullspace", "/frequency"):
        yield post(path, data=text)
    yield post("/m/{model}/n/{neuron}", f"/m/{MODEL}/n/1.3", data=text)
    yield post("/atlas/{neuron}", "/atlas/1.3", data=text)
    yield post("/induction", data={"kind": "text", **text})
    yield post("/api/v1/sweeps/estimate", json=SMALL)
    yield post("/sweeps/estimate", data={"rows": "2", "length": "24"})


def changes() -> Iterator[Call]:
    """What writes. Deleting comes last."""
    of = {"target": f"neuron:{MODEL}/1.3"}
    yield post("/share", data={"text": TEXT})
    yield post("/r/{name}", "/r/{trace}")
    yield refused(post("/login", data={"key": "wrong"}), 401)
    yield post("/logout")
    yield post("/api/v1/notes", json={**of, "text": "a"})
    yield Call("PUT", "/api/v1/notes/{name}", "/api/v1/notes/{note}", {"json": {"text": "b"}})
    yield post("/lab/notes", data={"target": f"{MODEL}/1.3", "text": "c"})
    yield post("/lab/notes/{name}", "/lab/notes/{note}", data={"text": "d"})
    lists = {"name": "l", "model": MODEL, "neurons": ["1.3"]}
    yield post("/api/v1/lists", json=lists)
    yield Call("PUT", "/api/v1/lists/{name}", "/api/v1/lists/{list}", {"json": {"description": "e"}})
    yield post("/lab/lists", data={**lists, "neurons": "1.3"})
    yield post("/lab/lists/{name}", "/lab/lists/{list}", data={"title": "f", "neurons": "1.3"})
    yield post("/api/v1/pins", json=of)
    yield post("/lab/pins", data=of)
    yield post("/lab/pins/delete", data=of)
    yield Call("DELETE", "/api/v1/pins", "/api/v1/pins", {"params": of})
    yield post("/api/v1/import", content="{exported}", headers={"content-type": "application/json"})
    yield post("/lab/import", files={"file": ("x.json", b'{"format": "nullscope-export", "version": 1}')})
    yield post("/api/v1/corpora", params={"name": "x.txt"}, content="The cat sat. " * 9)
    yield post("/sweeps/text", files={"file": ("x.txt", b"The cat sat. " * 9)})
    yield get("/api/v1/corpora")
    nobodys = "0" * 12
    yield refused(Call("DELETE", "/api/v1/corpora/{text_id}", f"/api/v1/corpora/{nobodys}", {}), 404)
    yield refused(post("/sweeps/texts/{text_id}/delete", f"/sweeps/texts/{nobodys}/delete"), 404)
    yield post("/api/v1/sweeps", json=SMALL)
    yield post("/sweeps", data={"rows": "2", "length": "24"})
    yield post("/api/v1/models/{key}/dial/jobs", f"{M}/dial/jobs", json={"text": TEXT, "dials": ["1.3:scale=2"]})
    yield post("/api/v1/models/{key}/induction/ablation/jobs", f"{M}/induction/ablation/jobs", json=ABLATION)
    for path, body in TAKEN_APART.values():
        yield post(f"/api/v1/models/{{key}}/{path}/jobs", f"{M}/{path}/jobs", json=body)
    yield post("/induction/ablation/start", data=PANEL)
    for template, name in (
        ("/api/v1/jobs/{job_id}/cancel", "sweep"), ("/jobs/{job_id}/cancel", "sweep"),
        ("/api/v1/sweeps/{sweep_id}/cancel", "sweep"), ("/api/v1/sweeps/{sweep_id}/resume", "sweep"),
        ("/sweeps/{sweep_id}/share", "sweep"),
        ("/sweeps/{sweep_id}/cancel", "sweep"), ("/sweeps/{sweep_id}/resume", "sweep"),
        ("/induction/jobs/{job_id}/cancel", "ablation"), ("/lab/lists/{name}/delete", "list"),
        ("/lab/notes/{name}/delete", "note"), ("/r/{name}/delete", "trace"), ("/sweeps/{sweep_id}/delete", "second"),
    ):  # fmt: skip
        call = post(template, re.sub(r"{[^}]+}", "{" + name + "}", template))
        yield refused(call, 409) if "resume" in template else call
    yield post("/r/{name}/caption", "/r/{page}/caption", data={"title": "seen", "caption": "what was seen"})
    cancel = "/induction/ablation/jobs/{job_id}/cancel"
    yield post("/api/v1/models/{key}" + cancel, M + cancel.replace("job_id", "ablation"))
    cancel = "/dial/jobs/{job_id}/cancel"
    yield post("/api/v1/models/{key}" + cancel, M + cancel.replace("job_id", "dial"))
    for kind, (path, _) in TAKEN_APART.items():
        cancel = f"/{path}/jobs/{{job_id}}/cancel"
        yield post("/api/v1/models/{key}" + cancel, M + cancel.replace("job_id", kind))
    for template, name in (
        ("/api/v1/results/{name}", "page"), ("/api/v1/notes/{name}", "other_note"),
        ("/api/v1/lists/{name}", "other_list"), ("/api/v1/sweeps/{sweep_id}", "sweep"),
    ):  # fmt: skip
        yield Call("DELETE", template, re.sub(r"{[^}]+}", "{" + name + "}", template), {})
    yield refused(Call("DELETE", "/api/v1/models/{key}", M, {}), 409)  # the only one
    yield refused(post("/models/{key}/unload", f"/models/{MODEL}/unload"), 409)
    text = {"params": {"name": "x.txt"}, "content": b"A cat sat."}
    yield post("/api/v1/models/{key}/reference", f"{M}/reference", **text)
    yield Call("DELETE", "/api/v1/models/{key}/reference", f"{M}/reference", {})
    yield post("/models/{key}/reference", f"/models/{MODEL}/reference", files={"file": ("x.txt", b"A cat.")})
    yield refused(post("/api/v1/models", json={"key": "nowhere"}), 404)
    yield refused(post("/models/load", data={"key": "nowhere"}), 422)


def taking_apart(client: TestClient) -> str:
    """The name of a run that the page Why follows; None is left in the making for long."""
    page = client.post("/why?format=json", data={"text": TEXT}).json()
    return page["runs"]["why"]


def prepared(client: TestClient) -> dict[str, str]:
    """Things that the calls name: results, notes, a finished sweep and ablation, a heat map."""
    from app.core.theme import plotly_js

    first, second = started(client), started(client)
    finished(client, first), finished(client, second)
    job = client.post(f"{M}/induction/ablation/jobs", json=ABLATION).json()["id"]
    until(lambda: client.get(f"{M}/induction/ablation/jobs/{job}").json()["state"] == "finished")
    turned = {"text": TEXT, "max_new_tokens": 2, "dials": ["1.3:scale=2"]}
    dial = client.post(f"{M}/dial/jobs", json=turned).json()["id"]
    until(lambda: client.get(f"{M}/dial/jobs/{dial}").json()["state"] == "finished")
    target = {"target": f"neuron:{MODEL}/1.3", "text": "x"}
    apart = {}
    for kind, (path, body) in TAKEN_APART.items():
        name = apart[kind] = client.post(f"{M}/{path}/jobs", json=body).json()["id"]
        until(lambda path=path, name=name: client.get(f"{M}/{path}/jobs/{name}").json()["state"] == "finished")
    notes = [client.post("/api/v1/notes", json=target).json()["id"] for _ in range(2)]
    made = {"model": MODEL, "neurons": ["1.3"]}
    lists = [client.post("/api/v1/lists", json={"name": str(i), **made}).json()["id"] for i in range(2)]
    links = [
        client.post(f"{M}/trace?store=true", json={"text": TEXT}).json()["permalink"],
        client.post("/share", data={"text": TEXT}, follow_redirects=False).headers["location"],
        client.post(f"{M}/induction?store=true", json={"kind": "random", "rows": 2, "length": 8}).json()["permalink"],
    ]
    kept = next(row for row in client.get("/api/v1/results").json()["rows"] if row["kind"] == "sweep")
    client.get("/atlas")
    client.get(f"{M}/neurons")  # waits for the atlas
    trace, page, repeats = (link.removeprefix("/r/") for link in links)
    return {
        "sweep": first, "second": second, "ablation": job, "dial": dial, "note": notes[0],
        "other_note": notes[1], "list": lists[0], "other_list": lists[1], "trace": trace, "page": page,
        "repeats": repeats, "kept_sweep": kept["hash"], "model": MODEL, "plotly": plotly_js()[1],
        "exported": json.dumps(client.get("/api/v1/export").json()),
        "run": heat_map(client),
        **apart,
        "taking_apart": taking_apart(client),
    }  # fmt: skip


def heat_map(client: TestClient) -> str:
    """The name of one that was not finished when its page was shown: the device was held meanwhile."""
    free = threading.Event()
    held = client.app.state.host.submit(MODEL, lambda resident: free.wait())  # type: ignore[attr-defined]
    headers = {"HX-Request": "true", "HX-Target": "div#effects"}
    page = client.post("/effects", data={"text": TEXT * 2, "panel": "heatmap"}, headers=headers)
    free.set()
    held.result()
    name = re.search(r"/effects/heatmap/(\w+)", page.text)
    assert name is not None
    return name.group(1)


def every() -> list[Call]:
    return [*pages(), *reads(), *computes(), *changes()]


def routes(client: TestClient) -> list[Any]:
    """Every route of the app, those of included routers too."""

    def walk(found: list[Any]) -> Iterator[Any]:
        for route in found:
            inner = getattr(getattr(route, "original_router", None), "routes", None)
            if inner is None:
                yield route
            else:
                yield from walk(inner)

    return list(walk(client.app.router.routes))  # type: ignore[attr-defined]


def served(client: TestClient) -> set[tuple[str, str]]:
    """(method, path template) of every route of the app."""
    found = {(method, route.path) for route in routes(client) for method in getattr(route, "methods", None) or ()}
    return {(method, path) for method, path in found if method != "HEAD"} | {("GET", "/static/{path}")}
