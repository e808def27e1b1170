"""What comes in a file is checked as deeply as a request, bounded, read off the event loop, and can then be opened."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.core.question import PROMPT_PAGE, SWEEP
from app.core.settings import Settings
from app.lab import importing
from app.main import create_app
from app.registry import OTHERS, QUESTIONS
from tests import tiny
from tests.app.exported import FORMATS, GONE, MODEL, crafted, export_of, head, packed, renamed, unpacked

JSON = {"content-type": "application/json", "accept": "application/json"}
NO_WEIGHTS = "0" * 64
KINDS = importing.Kinds(QUESTIONS, OTHERS)
WITHOUT_FILE = tuple(form for form in FORMATS if "page.html" not in form)  # it is the page again, in a MB
FEW = ("/r/{}", "/r/{}?format=csv", "/r/{}/notebook.ipynb")


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """An app with the model, where a fault answers 500 instead of raising."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("importing"), models=(str(model_folder),), device="cpu",
        effects_backend="eager", max_tokens=40,
    )  # fmt: skip
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        for entry in client.app.state.host.entries.values():  # type: ignore[attr-defined]
            entry.means_settled.wait()
        yield client


@pytest.fixture(scope="module")
def exported(server: TestClient) -> dict[str, Any]:
    return export_of(server)


@pytest.fixture(scope="module")
def rows(exported: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One result of each kind, its answer unpacked."""
    return {row["kind"]: unpacked(row) for row in exported["results"]}


def taken(client: TestClient, given: object) -> httpx.Response:
    return client.post("/api/v1/import", content=json.dumps(given), headers=JSON)


def opened(client: TestClient, name: str, forms: tuple[str, ...] = FORMATS) -> dict[str, int]:
    """Every form of a result, and the status of each."""
    found = {}
    for form in forms:
        answer = client.get(form.format(name), headers={"accept": "text/html", "accept-encoding": "identity"})
        assert "stored_answer" not in answer.text, form  # what was taken in can be shown as it was stored
        found[form] = answer.status_code
    return found


def test_every_kind_of_result_is_known_here(rows: dict[str, dict[str, Any]]) -> None:
    kept = {name for name, question in QUESTIONS.items() if question.permalink}
    assert rows.keys() == KINDS.views.keys() == {*kept, SWEEP}


def test_an_export_is_taken_in_as_it_is(
    exported: dict[str, Any], make_client: Callable[..., TestClient], tmp_path: Path
) -> None:
    there = make_client(data_dir=tmp_path / "there")
    assert taken(there, exported).json() == {"notes": 1, "lists": 1, "pins": 1, "results": len(exported["results"])}
    assert there.get("/api/v1/export").json() == exported


def test_every_kind_opens_in_every_form_with_its_model_and_without(
    server: TestClient, rows: dict[str, dict[str, Any]]
) -> None:
    for kind, row in rows.items():
        for found, absent in ((row, False), (renamed(row), True)):
            result = packed(found)
            assert taken(server, head(result)).status_code == 200, (kind, absent)
            for form, status in opened(server, result["hash"], FEW if absent else WITHOUT_FILE).items():
                assert status == 200 or (form.endswith("ipynb") and status in (404, 422)), (kind, form, status)


def test_each_sort_of_result_has_its_page_as_a_file(server: TestClient, rows: dict[str, dict[str, Any]]) -> None:
    for kind in ("trace", PROMPT_PAGE, SWEEP):
        result = packed(rows[kind])
        assert taken(server, head(result)).status_code == 200, kind
        assert opened(server, result["hash"], ("/r/{}/page.html",)) == {"/r/{}/page.html": 200}, kind


def test_what_was_made_up_is_refused_or_can_be_opened(server: TestClient, rows: dict[str, dict[str, Any]]) -> None:
    """No crafted row that is taken in makes a 500 in any form."""
    accepted = []

    @examples(max_examples=40, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(crafted(list(rows.values())))
    def attempt(row: dict[str, Any]) -> None:
        answer = taken(server, head(row))
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 200:
            accepted.append(row["hash"])
            for form, status in opened(server, row["hash"], WITHOUT_FILE).items():
                assert status < 500, (form, row["request"])

    attempt()
    assert len(accepted) > 3  # it is not all refused


def _option(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda row: row["request"]["options"].update(changes)


def _ids(ids: list[Any]) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        row["request"]["token_ids"] = ids
        row["answer"]["provenance"]["token_ids"] = ids

    return change


def _answer(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        inner = row["answer"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return change


def _request(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda row: row["request"].update(changes)


CRAFTED: dict[str, tuple[str, Callable[[dict[str, Any]], None], str]] = {
    "an option that is none": ("trace", _option(nonsense=1), "nonsense"),
    "a prompt among the options": ("trace", _option(text="x"), "token_ids"),
    "an option of another type": ("trace", _option(top_k="10"), "top_k"),
    "true for a number": ("effects", _option(limit=True), "limit"),
    "a whole number for another": ("effects", _option(limit=4.0), "limit"),
    "an option out of bounds": ("effects", _option(limit=10**6), "limit"),
    "a neuron that is none": ("trace", _option(neurons=["x"]), "neurons"),
    "an intervention that is none": ("trace", _option(interventions=[{"neuron": "1.5"}]), "interventions"),
    "more than an operator allows": ("induction", _option(rows=65), "at most 64"),
    "more neurons than an operator allows": ("trace", _option(neurons=["1.5"] * 257), "at most 256"),
    "a page's text beyond the limit": ("prompt", _option(text="x" * 20_001), "at most 20000"),
    "a page's interventions": ("prompt", _option(do="nonsense"), "not an intervention"),
    "a page's pin": ("prompt", _option(pin="{"), "pinned"),
    "a sweep's settings": ("sweep", _option(bootstrap=10**6), "bootstrap"),
    "a sweep's token ids": ("sweep", _request(token_ids=[1]), "no token ids"),
    "no token ids": ("trace", _ids([]), "prompt is empty"),
    "a token id beyond the vocabulary": ("trace", _ids([tiny.D_VOCAB]), "outside the vocabulary"),
    "a token id that is none": ("trace", _ids([True, 5]), "token_ids"),
    "a token id in quotes": ("trace", _ids(["5"]), "token_ids"),
    "more tokens than an operator allows": ("trace", _ids([5] * 41), "at most 40"),
    "a kind of the future": ("trace", _request(kind="telepathy"), "telepathy"),
    "a request with more in it": ("trace", _request(more=1), "more"),
    "an answer of other tokens": ("trace", _request(token_ids=[5, 6]), "other tokens"),
    "an answer of other weights": ("trace", _request(weights_sha256=NO_WEIGHTS), "another model"),
    "an answer of another kind": ("trace", _request(kind="effects", options={}), "the 1st of results"),
    "an answer without its parts": ("effects", _answer("rows", 0, "d_entropy", to={}), "d_entropy in the 1st of rows"),
    "curves of another length": ("trace", _answer("clean", "entropy", to=[1.0]), "entropy"),
    "a token out of order": ("lens", _answer("tokens", 0, "position", to=10**6), "positions"),
    "a reading without a token": ("lens", _answer("layers", 0, "top", 0, to=[]), "top"),
    "a map of another width": ("heatmap", _answer("rows", 0, "values", to=[1.0]), "values"),
    "a split of another width": ("why_text", _answer("components", 0, "direct", to=[1.0]), "direct"),
    "an edge to nowhere": ("circuit", _answer("edges", 0, "source", to=900), "edges"),
    "no doses": ("dose", _answer("rows", to=[]), "rows"),
    "a neuron in an answer": ("joint", _answer("rows", 0, "neuron", to="5"), "neuron"),
    "rows without end": ("induction", _answer("repeat", "n_positions", to=10**9), "tokens"),
    "copies without end": ("induction", _answer("repeat", "length", to=10**9), "starts"),
    "a metric of nobody's": ("induction", _answer("curves", to={}), "curves"),
    "an empty ranking": ("induction", _answer("ranking", to=[]), "ranking"),
    "layers without end": ("heads", _answer("n_layers", to=10**9), "rows"),
    "a pattern with a hole": ("heads", _answer("pattern", "attention", 0, to=[]), "attention"),
    "a neuron that is not read": ("head_ablation", _answer("neurons", to=["0.1"]), "neurons"),
    "a sweep's name": ("sweep", _answer("id", to="../x"), "id"),
    "an infinite number": ("trace", _answer("clean", "entropy", 0, to=float("inf")), "no JSON"),
    "an endless number": ("ledger", _answer("k", to=10**30), "number"),
    "half a surrogate pair": ("trace", _answer("tokens", 0, "text", to="\ud800"), "no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_a_row_that_no_request_makes_is_refused_by_name(
    server: TestClient, rows: dict[str, dict[str, Any]], name: str
) -> None:
    kind, change, reason = CRAFTED[name]
    row = copy.deepcopy(rows[kind])
    change(row)
    answer = taken(server, head(packed(row)))
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert "the 1st of results" in error["message"]
    assert reason in error["message"]


def test_options_that_an_older_version_did_not_have_may_be_missing(
    server: TestClient, rows: dict[str, dict[str, Any]]
) -> None:
    for kind in rows.keys() - {PROMPT_PAGE, SWEEP}:
        older = copy.deepcopy(rows[kind])
        for name, field in QUESTIONS[kind].request.model_fields.items():
            if not field.is_required():
                older["request"]["options"].pop(name, None)
        result = packed(older)
        assert taken(server, head(result)).status_code == 200, kind
        found = opened(server, result["hash"], ("/r/{}?plain=true", "/r/{}/notebook.ipynb"))
        assert set(found.values()) <= {200, 409, 422}, kind  # 409: without its options it is of other rows


def test_a_result_of_a_model_that_is_not_here_may_have_any_token_ids(
    server: TestClient, rows: dict[str, dict[str, Any]]
) -> None:
    """Nobody knows its vocabulary; a model of that name and smaller is no reason to fail, either."""
    row = copy.deepcopy(rows["trace"])
    row["request"]["weights_sha256"] = row["answer"]["provenance"]["weights_sha256"] = "a" * 64
    _ids([10**6] * len(row["answer"]["tokens"]))(row)
    result = packed(row)
    assert taken(server, head(result)).status_code == 200
    assert set(opened(server, result["hash"]).values()) == {200}
    assert server.get(f"/api/v1/results/{result['hash']}").json()["verdict"] == "cached"


def test_a_list_under_a_notes_id_spoils_no_history(server: TestClient) -> None:
    note = server.post("/api/v1/notes", json={"target": f"neuron:{MODEL}/1.1", "text": "mine"}).json()
    listed = {"name": "l", "description": "", "model": "m", "neurons": ["1.5"]}
    who = {"author": "x", "created": 1.0, "updated": 1.0}
    revision = {"id": 1, "thing": note["id"], "author": "x", "at": 1.0, "body": listed}
    given = head(lists=[{"id": note["id"], **listed, **who}], revisions=[revision])
    assert taken(server, given).status_code == 200
    page = server.get(f"/lab/notes/{note['id']}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert [row["body"] for row in server.get(f"/api/v1/lists/{note['id']}/history").json()["rows"]] == [listed]


# what it may cost


def bomb(row: dict[str, Any], size: int) -> dict[str, Any]:
    """A row whose answer unpacks to so many bytes."""
    answer = base64.b64encode(zlib.compress(b'{"x": "' + b" " * size + b'"}')).decode()
    return {**packed(row), "answer": answer}


def test_what_unpacks_to_too_much_is_413(
    server: TestClient, rows: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self) -> None:
            self.inner = real()

        def decompress(self, data: bytes, most: int) -> bytes:
            found = self.inner.decompress(data, most)
            asked.append(len(found))
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    monkeypatch.setattr("app.lab.importing.zlib.decompressobj", Counting)
    answer = taken(server, head(*[bomb(rows["trace"], 50_000_000)] * 5))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "import_too_large")
    (size,) = asked  # nothing after the first, and of that no more than is allowed
    assert size <= max(importing.FREE, importing.RATIO * 50_000) + 1
    legitimate = packed(rows["trace"])
    assert taken(server, head(legitimate)).status_code == 200


def test_all_answers_together_are_bounded(rows: dict[str, dict[str, Any]]) -> None:
    result = packed(rows["trace"])
    size = len(json.dumps(rows["trace"]["answer"]))
    body = json.dumps(head(*[result] * 5)).encode()
    importing.read(KINDS, body, Settings(max_import_bytes=6 * size), {})
    with pytest.raises(importing.TooLargeError, match="unpacks to more than"):
        importing.read(KINDS, body, Settings(max_import_bytes=4 * size), {})


def test_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MOST_ROWS", 3)
    pin = {"person": "x", "target": "neuron:m/1.1", "created": 1.0}
    importing.read(KINDS, json.dumps(head(pins=[pin] * 3)).encode(), Settings(), {})
    with pytest.raises(importing.TooLargeError, match="4 rows; at most 3"):
        importing.read(KINDS, json.dumps(head(pins=[pin] * 4)).encode(), Settings(), {})


def test_the_first_bad_row_ends_it() -> None:
    with pytest.raises(ValidationError) as refused:
        importing.read(KINDS, json.dumps(head(pins=[{}] * 1000)).encode(), Settings(), {})
    assert {error["loc"][:2] for error in refused.value.errors()} == {("pins", 0)}


def test_an_import_is_read_beside_the_event_loop(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is being read, by either door, others are answered."""
    reading, go, loop_thread = threading.Event(), threading.Event(), threading.get_ident()
    real = importing.read

    def slow(*given: Any) -> Any:
        assert threading.get_ident() != loop_thread
        reading.set()
        assert go.wait(600)
        return real(*given)

    monkeypatch.setattr(importing, "read", slow)
    app = create_app(make_settings())
    app.state.database.open()

    async def ask(door: str) -> None:
        reading.clear()
        go.clear()
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            text = json.dumps(head())
            more: dict[str, Any] = {"content": text, "headers": JSON}
            if door == "/lab/import":
                more = {"files": {"file": ("e.json", text)}}
            sent = asyncio.ensure_future(client.post(door, **more))
            while not reading.is_set():
                assert not sent.done(), sent
                await asyncio.sleep(0)
            assert (await client.get("/healthz")).status_code == 200
            go.set()
            assert (await sent).status_code in (200, 303)

    for door in ("/api/v1/import", "/lab/import"):
        asyncio.run(ask(door))


def test_the_name_of_a_missing_model_is_shown_as_text(server: TestClient, rows: dict[str, dict[str, Any]]) -> None:
    for name in ("a b", "<svg onload=x>", "../..", "é", "a/b"):
        result = packed(renamed(rows["effects"], name))
        assert taken(server, head(result)).status_code == 200
        assert set(opened(server, result["hash"]).values()) == {200}
        assert "<svg onload" not in server.get(f"/r/{result['hash']}", headers={"accept": "text/html"}).text
    assert GONE not in server.get("/api/v1/models").text
