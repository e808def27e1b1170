"""What people and operators write is shown as text: on every page, in CSV, in a notebook, in a standalone file."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from tests.app.conftest import make_client, make_settings

__all__ = ["make_client", "make_settings"]
EVIL = """<img src=x onerror="owned()"><script>owned()</script>"""
KEY = "<svg>`'\"&{{7**13}}"  # a folder's name; our own <svg class=...> is another


class Tags(HTMLParser):
    """Elements and handlers that a page really has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inline = tag == "script" and not {"src", "type"} & dict(attrs).keys()
        if tag == "img" or inline or any(name.startswith("on") for name, _ in attrs):
            self.found.append(self.get_starttag_text() or tag)


def test_a_model_folders_name_prompts_notes_and_lists_are_text_everywhere(
    make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / KEY
    shutil.copytree(model_folder, folder)
    client = make_client(models=(str(folder),))
    ask: dict[str, Any] = {"model": KEY, "text": EVIL[:40]}
    assert client.post("/api/v1/lists", json={"name": EVIL, "model": KEY, "neurons": ["1.5"]}).status_code == 201
    shared = client.post("/share", data=ask).url.path
    result = client.get("/api/v1/results").json()["rows"][0]
    assert client.post("/api/v1/notes", json={"target": f"result:{result['hash']}", "text": EVIL}).status_code == 201
    pages = [client.post(path, data=ask) for path in ("/", "/effects")]
    pages += [
        client.get(path, params={"model": KEY})
        for path in ("/lab", "/models", "/atlas", "/atlas/1.5", "/nullspace", "/frequency", "/sweeps", "/selfcheck",
                     "/jobs", "/induction", "/login", shared, shared + "?plain=true", shared + "/page.html")
    ]  # fmt: skip
    for page in pages:
        assert page.status_code == 200, page.url
        assert Tags(page.text).found == [], page.url
        assert "<svg>" not in page.text, page.url
        assert str(7**13) not in page.text, "a name is no template"  # so long a number stands in no hash by chance
    book = json.loads(client.get(shared + "/notebook.ipynb").text)
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            compile(cell["source"], "cell", "exec")
        else:
            assert "`" not in cell["source"].replace(f"`{KEY}`", "") or "<svg>`" not in cell["source"]


def test_no_table_of_the_lab_is_run_by_a_spreadsheet(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    for text in ("=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"):
        client.post("/api/v1/models/tiny-gpt2/trace?store=true", json={"text": text, "neurons": ["1.5"]})
        client.post("/api/v1/lists", json={"name": text, "model": "tiny-gpt2", "neurons": ["1.5"]})
    links = [row["permalink"] for row in client.get("/api/v1/results").json()["rows"]]
    for path in ("/lab", "/models", "/sweeps", "/atlas", "/jobs", *links):
        table = client.get(path, params={"format": "csv"}).text
        for row in csv.DictReader(io.StringIO(table)):
            for name, cell in row.items():
                number = not cell or cell.replace(".", "").replace("e-", "").lstrip("-").isdigit()
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (path, name, cell)
