"""Every route against a table written by hand: who may do what, and what it takes; ids and bodies from nowhere."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from app.core.access.gate import Gate
from app.core.access.keys import KeyFile
from app.core.access.rates import Buckets
from app.core.doors.api import router_of
from app.core.errors import BusyError
from app.core.question import Price
from app.core.settings import Settings
from app.families import FAMILIES
from app.main import create_app
from app.registry import QUESTIONS
from tests.app.conftest import with_checkpoint
from tests.app.served import until
from tests.security.table import MODEL, PRICES, SMALL, TABLE, TOGETHER, WITH_TEXT, Ask, api, at

ROLES = ("view", "run", "admin")


class Spent(Buckets):
    """Buckets that never run dry and remember what was taken from each."""

    def __init__(self) -> None:
        super().__init__(1e9)
        self.of: Counter[str] = Counter()

    def take(self, name: str, cost: float, **more: Any) -> None:
        self.of[name] += cost  # type: ignore[assignment]

    def give_back(self, name: str, cost: float) -> None:
        self.of[name] -= cost  # type: ignore[assignment]


@pytest.fixture(scope="module")
def closed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """An app with one person a role."""
    folder = tmp_path_factory.mktemp("closed")
    keys = KeyFile(folder / "users.json")
    people = {role: keys.add(role, role) for role in ROLES}  # type: ignore[arg-type]
    model = with_checkpoint(model_folder, folder / MODEL)
    settings = Settings(
        data_dir=folder / "data", models=(str(model),), device="cpu", auth_file=keys.path, effects_backend="eager",
        login_failures=1e6,
    )  # fmt: skip
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        app.state.gate.rates = Spent()
        app.state.host.wait(MODEL).means_settled.wait()
        yield client, people


@pytest.fixture(scope="module")
def ask(closed: tuple[TestClient, dict[str, str]]) -> Callable[[Ask, str | None], httpx.Response]:
    """Send a request of the table as somebody of a role, or as nobody."""
    client, people = closed
    headers = {"authorization": f"Bearer {people['run']}"}
    kept = client.post(f"/api/v1/models/{MODEL}/trace?store=true", json={"text": "kept"}, headers=headers).json()
    sweep = client.post("/api/v1/sweeps", json=SMALL, headers=headers).json()["id"]
    until(lambda: client.get(f"/api/v1/jobs/{sweep}", headers=headers).json()["state"] == "finished")
    known = {"{sweep}": sweep, "{result}": kept["permalink"].removeprefix("/r/")}

    def send(request: Ask, role: str | None) -> httpx.Response:
        values = {name: known.get(value, value) for name, value in request.values.items()}
        path = re.sub(r"{(\w+)}", lambda found: values.get(found[1], "none"), request.route)
        more = dict(request.more)
        if "params" in more:
            more["params"] = {name: known.get(value, value) for name, value in more["params"].items()}
        accept = "application/json" if path.startswith("/api/") else "text/html"
        sent = {"accept": accept, **more.pop("headers", {})}
        if role is not None:
            sent["authorization"] = f"Bearer {people[role]}"
        return client.request(request.method, path, headers=sent, follow_redirects=False, **more)

    return send


def spent(client: TestClient) -> Counter[str]:
    gate: Gate = client.app.state.gate  # type: ignore[attr-defined]
    assert isinstance(gate.rates, Spent)
    return gate.rates.of


def refused(answer: httpx.Response) -> bool:
    """Whether it was the role: as JSON, or in the page's place, which then says so."""
    if answer.status_code == 403:
        assert "needs the role" in answer.text, answer.text
    return answer.status_code == 403


def operations() -> set[tuple[str, str]]:
    """(method, path with its parameters' names) of every route there is."""
    routers = [import_module(family).router for family in FAMILIES] + [router_of(QUESTIONS.values())]
    return {(method, route.path) for router in routers for route in router.routes for method in route.methods}


# What pages and sweeps have computed beside the questions -> its name in the table.
OF_PAGES = {
    "app.prompt.answer.page": "prompt page",
    "app.atlas.frequency.on_sample": "frequency_on",
    "app.atlas.nullspace.walked_on_sample": "walk",
    "app.atlas.page.page": "neurons",
    "app.atlas.nullspace.page": "nullspace",
    "app.compare.answer.whole": "side",
    "app.compare.answer.checkpoint": "checkpoint",
    "app.compare.answer.moment": "moment of training",
    "app.sweep.answer.calibrate": "calibration",
    "app.sweep.answer.figures": "figures of a sweep",
    "app.sweep.estimate.check": "sweep",
    "app.sweep.estimate.estimate": "sweep estimate",
}


# Of the weights alone: a reader may ask, and pays for a null space of another dimension.
BY_WEIGHTS = {"neurons", "neuron", "spectrum", "nullspace", "side"}


def of_pages() -> dict[str, Price]:
    """Every function with a price, by its whole name."""
    found: dict[str, Price] = {}
    for file in (Path(__file__).parents[2] / "app").rglob("*.py"):
        if "@priced" in file.read_text("utf-8") and file.name != "question.py":
            name = ".".join(file.relative_to(Path(__file__).parents[2]).with_suffix("").parts)
            functions = vars(import_module(name)).values()
            found |= {
                f"{name}.{each.__name__}": each.price
                for each in functions
                if hasattr(each, "price") and each.__module__ == name
            }
    return found


def test_the_table_has_every_route_and_no_other() -> None:
    assert {(line.method, line.route) for line in TABLE} == operations()
    assert len(operations()) > 120


def test_the_table_has_every_priced_question_at_the_api_and_at_a_page() -> None:
    """A question asked at one door only would have nothing to be compared with."""
    priced = {question.name for question in QUESTIONS.values() if question.cost != 0 and question.path}
    priced |= {OF_PAGES[name] for name, price in of_pages().items() if price.cost != 0}
    assert priced == PRICES.keys() | TOGETHER.keys()
    asked = {(name, line.route.startswith("/api/")) for line in TABLE for name in line.asks}
    for name in priced - TOGETHER.keys() - {"moment of training"}:  # the page shows it in a fragment only
        whole = {parts for parts, names in TOGETHER.items() if name in names}
        assert {(name, True)} <= asked, name
        if name == "spectrum":  # a part of the page Null space, which is charged as that
            continue
        if name != "generate":  # asked at the API, by the command and the client; there is no page of it yet
            assert {(each, False) for each in {name} | whole} & asked, name
    for question in QUESTIONS.values():
        assert question.role == "run" or question.cost == 0 or question.name in BY_WEIGHTS, question.name
    for name, price in of_pages().items():
        free = OF_PAGES.get(name) in {*BY_WEIGHTS, "figures of a sweep", "checkpoint", "moment of training"}
        assert price.role == "run" or price.cost == 0 or free, name


def test_the_documentation_names_these_prices() -> None:
    text = (Path(__file__).parents[2] / "docs" / "hosting.md").read_text("utf-8")
    lines = re.findall(r"^\|(.*`.*)\| (\d+) \| (?:view|run) \|$", text, re.M)
    assert {name: int(cost) for names, cost in lines for name in re.findall("`([^`]+)`", names)} == PRICES


@pytest.mark.parametrize("line", TABLE, ids=str)
def test_who_may_and_what_it_takes(
    line: Ask, closed: tuple[TestClient, dict[str, str]], ask: Callable[[Ask, str | None], httpx.Response]
) -> None:
    """Everybody below the role is refused and pays for the request alone; the role gets an answer at its price."""
    client, _ = closed
    if line.role == "public":
        assert ask(line, None).status_code in (200, 303, 401, 422)
        return
    answer = ask(line, None)
    assert answer.status_code == (303 if line.method == "GET" and "html" in answer.request.headers["accept"] else 401)
    least = ROLES.index(line.role)
    for role in ROLES[:least]:
        before = spent(client)[role]
        assert refused(ask(line, role))
        assert spent(client)[role] - before in (0, line.door)
    # Two routes lead to one page: what another line had computed is asked for again without a price.
    client.portal.call(client.app.state.followed.close)  # type: ignore[attr-defined, union-attr]
    before = spent(client)[line.role]
    answer = ask(line, line.role)
    assert not refused(answer)
    assert answer.status_code < 500, answer.text
    assert answer.status_code not in (401, 403), answer.text
    assert spent(client)[line.role] - before == line.cost


def with_other(line: Ask, **fields: str) -> Ask | None:
    """The same with other fields, where it has any of these."""
    more = {name: dict(sent) for name, sent in line.more.items() if name in ("json", "data", "params")}
    found = False
    for sent in more.values():
        for name, value in fields.items():
            if name in sent:
                sent[name], found = value, True
    return replace(line, more={**line.more, **more}) if found else None


ASKING = [line for line in TABLE if line.asks]
TOO_LONG = "The cat sat on the mat. " * 400


@pytest.mark.parametrize("line", [line for line in ASKING if with_other(line, text="")], ids=str)
def test_a_text_that_is_too_long_costs_the_request_alone(
    line: Ask, closed: tuple[TestClient, dict[str, str]], ask: Callable[[Ask, str | None], httpx.Response]
) -> None:
    client, _ = closed
    sent = with_other(line, text=TOO_LONG)
    assert sent is not None
    client.cookies.clear()  # nothing is at hand that a page would show in its place
    before = spent(client)[line.role]
    answer = ask(sent, line.role)
    assert answer.status_code in (200, 422), answer.text  # 200: lines that had begun, whose last one is the error
    assert answer.status_code == 422 or "at most" in answer.text
    assert spent(client)[line.role] - before == line.door


@pytest.mark.parametrize("line", [line for line in ASKING if "{key}" in line.route], ids=str)
def test_a_model_that_is_not_there_costs_the_request_alone(
    line: Ask, closed: tuple[TestClient, dict[str, str]], ask: Callable[[Ask, str | None], httpx.Response]
) -> None:
    client, _ = closed
    before = spent(client)[line.role]
    answer = ask(replace(line, values={**line.values, "key": "none"}), line.role)
    assert answer.status_code == 404 or "unknown_model" in answer.text, answer.text
    assert spent(client)[line.role] - before == line.door


@pytest.mark.parametrize("line", [line for line in ASKING if line.route.endswith("/jobs")], ids=str)
def test_a_job_that_cannot_be_queued_costs_the_request_alone(
    line: Ask,
    closed: tuple[TestClient, dict[str, str]],
    ask: Callable[[Ask, str | None], httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, _ = closed
    jobs = client.app.state.answer_jobs  # type: ignore[attr-defined]

    def full(*given: Any, **more: Any) -> None:
        raise BusyError("The queue is full.")

    monkeypatch.setattr(jobs, "submit", full)
    before = spent(client)[line.role]
    assert ask(line, line.role).status_code == 429
    assert spent(client)[line.role] - before == line.door


# What is refused only once the text is in the model; the page then shows the text without it, at that price.
REFUSED_LATE = [
    (at("run", "POST", "/", data={**WITH_TEXT, "ln": "5e7"}), ("prompt page",)),
    (at("run", "POST", "/", data={**WITH_TEXT, "pin": "9.9"}), ("prompt page",)),
    (at("run", "POST", "/why", data={**WITH_TEXT, "pos": "400"}), ("why", "trace")),
    (at("run", "POST", "/why", data={**WITH_TEXT, "vs": "400"}), ("why", "trace")),
    (at("run", "POST", "/effects", data={**WITH_TEXT, "panel": "joint", "pos": "400"}), ("trace", "effects", "joint")),
    (at("run", "POST", "/effects", data={**WITH_TEXT, "panel": "ledger", "pos": "400"}), ("trace", "heatmap")),
    (api("run", "POST", "/effects", json={**WITH_TEXT, "position": 400}), ("effects",)),
    (api("run", "POST", "/joint", json={**WITH_TEXT, "neurons": ["1.3"], "position": 400}), ("joint",)),
]


@pytest.mark.parametrize(("line", "asks"), REFUSED_LATE, ids=str)
def test_a_request_that_is_refused_late_pays_once(
    line: Ask,
    asks: tuple[str, ...],
    closed: tuple[TestClient, dict[str, str]],
    ask: Callable[[Ask, str | None], httpx.Response],
) -> None:
    client, _ = closed
    line = with_other(line, text=f"Nobody has asked about number {REFUSED_LATE.index((line, asks))}") or line
    before = spent(client)[line.role]
    answer = ask(line, line.role)
    assert answer.status_code == 422, answer.text
    assert spent(client)[line.role] - before == replace(line, asks=asks).cost


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_says_nothing_needs_run_to_change(method: str, closed: tuple[TestClient, dict[str, str]]) -> None:
    client, people = closed
    headers = {"authorization": f"Bearer {people['view']}", "accept": "application/json"}
    for path in ("/anything", "/api/v1/anything", "/static/../x", "/healthz/x", "/loginx"):
        assert client.request(method, path).status_code == 401, path
        assert refused(client.request(method, path, headers=headers)), path


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "'; DROP TABLE results;--",
        "%",
        "_" * 64,
        "a" * 5000,
        "😀" * 8,
        "0" * 64,
        "<svg>",
    ],
)
def test_ids_from_nowhere_are_not_found(closed: tuple[TestClient, dict[str, str]], name: str) -> None:
    client, people = closed
    headers = {"authorization": f"Bearer {people['admin']}", "accept": "application/json"}
    for path in ("/r/", "/api/v1/results/", "/api/v1/lists/", "/lab/notes/"):
        answer = client.get(path + name, headers=headers)
        assert answer.status_code in (404, 422), (path, answer.status_code)
        assert "<svg>" not in answer.text or answer.headers["content-type"].startswith("application/json")


def test_a_body_nested_without_end_is_refused(closed: tuple[TestClient, dict[str, str]]) -> None:
    client, people = closed
    headers = {"authorization": f"Bearer {people['admin']}", "content-type": "application/json"}
    for path in ("/api/v1/models/tiny-gpt2/trace", "/api/v1/notes", "/api/v1/import"):
        for body in (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5000 + b"]" * 5000):
            assert client.post(path, content=body, headers=headers).status_code in (400, 422), path


def test_another_site_can_change_nothing(closed: tuple[TestClient, dict[str, str]]) -> None:
    """Every route that changes something, as a page elsewhere would send it with the browser's cookie."""
    client, people = closed
    client.post("/login", data={"key": people["admin"]})
    assert client.get("/lab").status_code == 200  # the cookie is there
    tried = 0
    for method, route in sorted(operations()):
        path = re.sub(r"{\w+}", "none", route)
        if method in ("GET", "OPTIONS"):
            continue
        tried += 1
        for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil"}):
            answer = client.request(method, path, headers={**headers, "accept": "application/json"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin"), (method, path)
    assert tried > 30
    client.cookies.clear()


def test_a_session_that_somebody_else_planted_opens_nothing(closed: tuple[TestClient, dict[str, str]]) -> None:
    """Fixation: the login gives a new secret, and the planted one is worth nothing before or after."""
    client, people = closed
    planted = "a" * 43
    client.cookies.set("nullscope_session", planted)
    assert client.get("/api/v1/results").status_code == 401
    answer = client.post("/login", data={"key": people["run"]}, follow_redirects=False)
    fresh = answer.cookies["nullscope_session"]
    assert fresh != planted
    client.cookies.clear()
    for secret, status in ((planted, 401), (fresh, 200)):
        assert client.get("/api/v1/results", headers={"cookie": f"nullscope_session={secret}"}).status_code == status


def test_headers_that_a_proxy_would_send_change_nobody(closed: tuple[TestClient, dict[str, str]]) -> None:
    client, people = closed
    forged = {
        "x-forwarded-user": "admin", "x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1",
        "forwarded": "for=127.0.0.1",
        "x-forwarded-host": "localhost", "x-forwarded-proto": "https", "x-original-url": "/healthz",
        "x-rewrite-url": "/healthz", "x-http-method-override": "GET", "remote-user": "admin",
    }  # fmt: skip
    assert client.get("/api/v1/results", headers=forged).status_code == 401
    viewer = {**forged, "authorization": f"Bearer {people['view']}"}
    refused = client.post("/api/v1/models/tiny-gpt2/trace", json={"text": "x"}, headers=viewer)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role")
