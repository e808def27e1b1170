"""One renderer: page, fragment, JSON and CSV of one view; errors in the three forms; nothing of a text is executed."""

import csv
import io
import re

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from app.core import documents, pages
from app.core.csv import as_csv
from app.core.navigation import SECTIONS
from app.core.view import View

FRAGMENT = {pages.REQUEST: "true", pages.KIND: "partial"}
HOSTILE = "<script>a</script><b onx=y>\u202ea"


PAPER = "https://arxiv.org/abs/2406.16254"


def fragment(target: str) -> dict[str, str]:
    return {**FRAGMENT, pages.TARGET: target}


def run(client: TestClient, headers: dict[str, str] | None = None, url: str = "/", **fields: str) -> str:
    answer = client.post(url, data={"text": "the cat sat on the mat", **fields}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_fragment_is_its_part_of_the_page(client: TestClient) -> None:
    client.get("/api/v1/models/tiny-gpt2/neurons")  # labels are there from now on
    page = run(client, pos="2")
    neurons = run(client, fragment("section#neurons"), pos="2")
    assert neurons.startswith("<section") or neurons.lstrip().startswith("<section")
    row = re.search(r'<tr tabindex="0".*?</tr>', neurons, re.DOTALL)
    assert row is not None
    assert row[0] in page
    assert "<html" not in neurons


def test_the_answer_varies_with_what_chooses_its_form(client: TestClient) -> None:
    answer = client.get("/models", headers=fragment("section#models"))
    assert pages.TARGET in answer.headers["vary"]
    assert answer.text.lstrip().startswith("<section")
    restored = client.get("/models", headers={**fragment("section#models"), pages.RESTORE: "true"})
    assert "<html" in restored.text


def test_page_json_and_csv_have_the_same_numbers(client: TestClient) -> None:
    trace = client.post("/api/v1/models/tiny-gpt2/trace", json={"text": "the cat sat on the mat"}).json()
    page = client.post("/?format=json", data={"text": "the cat sat on the mat"}).json()
    rows = list(csv.DictReader(io.StringIO(run(client, url="/?format=csv"))))
    assert page["trace"]["clean"]["entropy"] == trace["clean"]["entropy"]
    assert [float(row["clean.entropy"]) for row in rows] == trace["clean"]["entropy"]
    assert rows[-1]["clean.loss"] == ""


def test_the_neuron_table_is_the_effects_call(client: TestClient) -> None:
    body = {"text": "the cat sat on the mat", "position": 2, "limit": 25, "baseline": "zero"}
    api = client.post("/api/v1/models/tiny-gpt2/effects", json=body).json()
    page = client.post(
        "/?format=json&table=neurons", data={"text": body["text"], "pos": "2", "baseline": "zero"}
    ).json()
    assert page["rows"] == api["rows"]
    table = run(client, url="/?format=csv&table=neurons", pos="2", baseline="zero")
    first = next(csv.DictReader(io.StringIO(table)))
    assert float(first["d_entropy.total"]) == api["rows"][0]["d_entropy"]["total"]


@pytest.mark.parametrize("form", ["json", "page", "fragment"])
def test_an_error_has_one_content_in_three_forms(client: TestClient, form: str) -> None:
    headers = {"json": {"accept": "application/json"}, "page": {}, "fragment": fragment("section#models")}[form]
    answer = client.get("/no-such-page", headers=headers)
    assert answer.status_code == 404
    if form == "json":
        assert set(answer.json()["error"]) == {"code", "message", "hint"}
    else:
        assert 'role="alert"' in answer.text
        assert ("<html" in answer.text) == (form == "page")


def test_a_refused_prompt_keeps_what_was_typed(client: TestClient) -> None:
    answer = client.post("/", data={"text": "the cat " * 60})
    assert answer.status_code == 422
    assert "at most 40" in answer.text
    assert "the cat the cat" in answer.text
    assert pages.PUSH not in answer.headers


def test_hostile_text_is_escaped_everywhere(client: TestClient) -> None:
    page = run(client, text=HOSTILE)
    assert "<script>a" not in page
    assert "<b on" not in page
    # A mark that would turn the following text round stands only where text is typed, and in data.
    seen = re.sub(r"<(textarea|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "\u202e" not in seen
    # The island of data can be read back, and holds the text as it was.
    island = re.search(r'id="strip-data">(.*?)</script>', page, re.DOTALL)
    assert island is not None
    assert "<" not in island[1]


def test_no_page_has_an_inline_script_or_a_foreign_address(client: TestClient) -> None:
    for page in (client.get("/").text, run(client), client.get("/models").text):
        for tag in re.findall(r"<script[^>]*>", page):
            assert "src=" in tag or 'type="application/json"' in tag
        assert not re.search(r"<[^>]*\son\w+=", page)
        assert "hx-on" not in page
        assert set(re.findall(r'(?:src|href|action)="(https?:[^"]*)"', page)) <= {PAPER}


def test_texts_never_stand_in_addresses(client: TestClient) -> None:
    answer = client.post(
        "/", data={"text": "secret words", "pos": "1", "do": "1.3:zero@1"}, headers=fragment("div#result")
    )
    address = answer.headers[pages.PUSH]
    assert "secret" not in address
    assert "pos=1" in address
    assert "do=1.3%3Azero%401" in address


def test_a_root_path_stands_before_every_address(client: TestClient) -> None:
    page = TestClient(client.app, root_path="/lab").get("/lab/models").text
    addresses = re.findall(r'(?:src|href|action|hx-get|hx-post)="(/[^"]*)"', page)
    assert addresses
    assert all(address.startswith("/lab/") for address in addresses)


def test_navigation_shows_what_exists(client: TestClient) -> None:
    """Five questions on every page; under each, the pages that there are, and where one is."""
    for section in SECTIONS:
        there = [entry for entry in section.entries if client.get(entry.path).status_code != 404]
        for entry in there:
            page = client.get(entry.path).text
            assert all(f"<strong>{other.label}</strong><span>{other.question}" in page for other in SECTIONS)
            assert [f">{other.label}</a>" in page for other in section.entries] == [
                other in there for other in section.entries
            ]
            assert page.count('aria-current="page"') >= 1, entry.path
            assert "arxiv.org/abs/2406.16254" in page
            assert 'href="/docs/glossary"' in page


def test_documents_are_pages_with_numbered_headings(client: TestClient) -> None:
    page = client.get("/docs/methods").text
    assert re.search(r'<h2 id="ablating-a-neuron-of-the-last-layer">2  Ablating', page)
    assert client.get("/docs").status_code == 200
    for name in documents.names():
        for link in re.findall(r'href="(/docs/[^"#]+)', client.get(f"/docs/{name}").text):
            assert client.get(link).status_code == 200, (name, link)
    assert client.get("/docs/nothing").status_code == 404
    assert "There is no document" in client.get("/docs/nothing").text


def test_every_section_that_a_template_cites_is_there() -> None:
    for file in pages.TEMPLATES.rglob("*.html"):
        for start in re.findall(r"methods:([a-z-]+)", file.read_text("utf-8")):
            assert documents.section(start), (file.name, start)


def test_csv_cells_are_no_formulas() -> None:
    class Table(View):
        rows: list[dict[str, object]]

    view = Table(rows=[{"token": "=1+1", "at": {"x": -2.5}, "list": [1, 2]}])
    assert list(csv.DictReader(io.StringIO(as_csv(view)))) == [{"token": "'=1+1", "at.x": "-2.5", "list": "[1, 2]"}]
    raw = list(csv.DictReader(io.StringIO(as_csv(view, raw=True))))
    assert raw == [{"token": "=1+1", "at.x": "-2.5", "list": "[1, 2]"}]


def test_a_program_gets_the_tokens_as_they_are(client: TestClient) -> None:
    """In csv-raw and parquet; csv is for spreadsheets."""

    def tokens(form: str) -> list[str]:
        answer = client.post("/", params={"format": form}, data={"text": "=1-2"})
        if form == "parquet":
            return pq.read_table(io.BytesIO(answer.content)).column("text").to_pylist()
        return [row["text"] for row in csv.DictReader(io.StringIO(answer.text))]

    assert tokens("csv-raw") == tokens("parquet") == ["=", "1", "-", "2"]
    assert tokens("csv") == ["'=", "1", "'-", "2"]
    for page in ("/atlas", "/nullspace", "/compare"):
        answer = client.get(page, params={"format": "csv-raw"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
