"""Every door of a question is made from its value: routes, commands, the client's methods, permalinks, prices."""

import csv
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import unquote

import click
import httpx
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main, questions
from app.core.column import Column, columns_of, value
from app.core.doors import client as written_client
from app.core.doors.command import command_of
from app.core.later import Later
from app.core.question import Question, price_of, priced
from app.core.request import PromptRequest, TableRequest
from app.core.shell.session import ApiSession
from app.core.view import EffectRow, EffectsView, View
from app.registry import QUESTIONS

URL = "/api/v1/models/tiny-gpt2"
PROMPT = {"text": "The dog sat"}
EVERY = list(QUESTIONS.values())


@pytest.mark.parametrize("question", EVERY, ids=lambda question: question.name)
def test_all_that_a_question_names_is_there(question: Question) -> None:
    one = (question.answer, question.lines, question.prints, question.notebook, question.opens, question.every_row)
    later = (*one, *question.charts.values())
    assert all(callable(each.function) for each in later if each is not None)
    assert question.says.partition("\n")[0].endswith(".")
    assert question.path is not None or not question.permalink or question.opens is not None


@pytest.mark.parametrize("question", [q for q in EVERY if q.path], ids=lambda question: question.name)
def test_every_question_with_a_path_has_its_route(question: Question, client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    item = document["paths"][f"/api/v1/models/{{key}}/{question.path}"][question.method.lower()]
    answer = item["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["$ref"].rsplit("/", 1)[-1] == question.view.__name__
    fields = {name for name in question.request.model_fields if not issubclass(question.request, TableRequest)}
    if question.method == "GET":
        assert fields <= {parameter["name"] for parameter in item["parameters"]}


def test_the_client_is_what_the_questions_say() -> None:
    again = written_client.formatted(written_client.written(EVERY))
    assert written_client.FILE.read_text("utf-8") == again, "make client"


@pytest.mark.parametrize("question", questions().values(), ids=lambda question: question.name)
def test_a_command_has_an_option_for_every_field(question: Question) -> None:
    command = command_of(question)
    names = {parameter.name for parameter in command.params}
    assert set(question.request.model_fields) | set(question.path_names) <= names
    typed = [flag for parameter in command.params for flag in parameter.opts if isinstance(parameter, click.Option)]
    assert len(typed) == len(set(typed))
    said = CliRunner().invoke(main, [question.command or "", "--help"])
    assert said.exit_code == 0, said.output


@pytest.mark.parametrize("question", [q for q in EVERY if q.path_names], ids=lambda question: question.name)
@pytest.mark.parametrize("name", ["../../../models", "1.3/sample", "1.3?k=1", "1.3#", "a b", "..", "%31.3"])
def test_a_name_in_a_command_stays_one_part_of_the_address(
    question: Question, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(method: str, path: str, body: Any) -> httpx.Response:
        asked.append(path)
        return httpx.Response(404, json={"error": {"message": "none", "code": "not_found", "hint": ""}})

    @contextmanager
    def opened(model: str | None, url: str | None, **context: bool) -> Iterator[ApiSession]:
        yield ApiSession(ask, ["m"])

    monkeypatch.setattr("app.core.doors.command.opened", opened)
    text = ["a b"] if issubclass(question.request, PromptRequest) else []
    said = CliRunner().invoke(command_of(question), [name] * len(question.path_names) + text)
    assert said.exit_code == 2, said.output
    parts = httpx.URL("http://server" + asked[0]).raw_path.decode().partition("?")[0].split("/")
    want = f"/models/m/{question.path}".split("/")
    assert [unquote(part) for part in parts] == [name if part.startswith("{") else part for part in want]


def test_a_command_refuses_before_it_loads_a_model() -> None:
    for words, reason in (
        (["dose", "a b"], "--neuron"),
        (["dose", "a b", "-n", "1.2", "--low", "2", "--high", "1"], "low must be less than high"),
        (["effects", "a b", "--min", "norm=1"], "no column 'norm'"),
        (["effects", "a b", "--min", "norm"], "COLUMN=X"),
        (["trace", "a b", "-i", "1.2:clip"], "the 1st of interventions: min or max is needed"),
        (["trace"], "give one of text, token_ids and turns"),
    ):
        said = CliRunner().invoke(main, words)
        assert said.exit_code == 2, words
        assert reason in said.output, words


def test_a_table_comes_as_csv_and_as_parquet_where_it_is_asked_for(client: TestClient) -> None:
    body = {**PROMPT, "limit": 3}
    told = client.post(f"{URL}/effects", json=body).json()
    table = client.post(f"{URL}/effects", json=body, headers={"accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["neuron"] for row in rows] == [row["neuron"] for row in told["rows"]]
    assert float(rows[0]["d_entropy.total"]) == told["rows"][0]["d_entropy"]["total"]
    columns = client.post(f"{URL}/effects", json=body, headers={"accept": "application/vnd.apache.parquet"})
    assert columns.content[:4] == b"PAR1"


def test_a_table_as_a_file_is_whole_unless_a_page_of_it_is_named(client: TestClient) -> None:
    """By the API and on the page; what JSON gives is a page."""

    def rows(path: str, query: dict[str, Any]) -> int:
        table = client.get(path, params=query or None, headers={"accept": "text/csv"}).text
        return len(list(csv.DictReader(io.StringIO(table))))

    told = client.get(f"{URL}/neurons").json()
    assert told["total"] > len(told["rows"])
    for path, kind in ((f"{URL}/neurons", {}), ("/atlas", {"format": "csv", "layer": "all"})):
        assert rows(path, kind) == told["total"], path
        assert rows(path, {**kind, "limit": 3}) == 3
        assert rows(path, {**kind, "offset": told["total"] - 1}) == 1
    link = re.search(r'href="([^"]*format=csv[^"]*)"', client.get("/atlas?layer=all&limit=2&offset=4").text)
    assert link is not None
    assert rows(html.unescape(link[1]), {}) == told["total"]
    tables = {name for name, question in QUESTIONS.items() if issubclass(question.request, TableRequest)}
    assert tables == {"effects", "neurons"}
    assert QUESTIONS["effects"].request.model_validate(PROMPT).whole().limit > 10**9  # type: ignore[attr-defined]


def test_what_is_run_for_somebody_has_a_price() -> None:
    with pytest.raises(LookupError, match="has no price"):
        price_of(len)

    @priced(lambda n: 2 * n, "run")
    def work(resident: object, n: int) -> None: ...

    assert (price_of(work).cost_of(3), price_of(work).role) == (6, "run")


class Half(View):
    direct: Annotated[float | None, Column("direct")]


class Row(View):
    name: Annotated[str, Column("Name", form="text")]
    aside: int
    change: Annotated[Half | None, Column("Δ", unit="nats", form="signed", parts={"direct": "d"})]


def test_columns_are_the_declared_fields_with_their_parts() -> None:
    found = columns_of(Row)
    assert list(found) == ["name", "change.direct"]
    part = found["change.direct"]
    assert (part.title, part.unit, part.form, part.shell, part.first_order) == (
        "Δ, direct",
        "nats",
        "signed",
        "d",
        "abs_desc",
    )
    assert value({"change": {"direct": 2.0}}, "change.direct") == 2.0
    assert value(Row(name="a", aside=1, change=None), "change.direct") is None


def test_a_column_of_the_effects_is_sorted_filtered_and_printed_by_its_declaration(client: TestClient) -> None:
    for key in columns_of(EffectRow):
        answer = client.post(f"{URL}/effects", json={**PROMPT, "position": 0, "sort": key, "limit": 2})
        assert answer.status_code == 200, key
        if key != "neuron":
            assert client.post(f"{URL}/effects", json={**PROMPT, f"min_{key}": -1e6}).status_code == 200, key
    assert set(EffectRow.model_fields) == {key.partition(".")[0] for key in columns_of(EffectRow)}
    assert EffectsView.model_fields["rows"].annotation == list[EffectRow]


def test_later_is_the_function() -> None:
    assert Later("app.core.column:value")({"a": 1}, "a") == 1
    assert issubclass(QUESTIONS["trace"].request, PromptRequest)
