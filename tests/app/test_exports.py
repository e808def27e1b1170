"""Exports say the same numbers: the notebook is executed and checks itself; CSV cannot run in a spreadsheet."""

import csv
import io
import json
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from analysis.sweep import spots
from app.core.access.keys import KeyFile
from app.induction.rows import DOCUMENTS
from tests import tiny
from tests.app.conftest import bearer
from tests.app.test_sweep_api import finished, started

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(12)


def execute(text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a notebook as it was downloaded, in a kernel of its own, offline; what its cells printed."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.delenv("NULLSCOPE_MODEL", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def test_the_notebooks_give_the_apis_numbers(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kernel for all kinds, since starting one takes seconds: the cells of one follow another's."""
    client = make_client()
    interventions = [
        {"neuron": "1.5", "mode": "mean"},
        {"neuron": "0.3", "mode": "clip", "max": 0.1, "positions": {"start": 2, "stop": 6}},
        {"neuron": "1.7", "mode": "scale", "value": -2, "positions": [3, 4]},
        {"head": "0.1", "mode": "mean"},
        {"head": "1.2", "mode": "bos", "positions": [5, 6]},
    ]
    trace = client.post(f"{URL}/trace?store=true", json={"token_ids": IDS, "interventions": interventions}).json()
    body = {"token_ids": IDS, "position": 5, "limit": 4, "baseline": "zero"}
    effects = client.post(f"{URL}/effects?store=true", json=body).json()
    base = {"token_ids": IDS, "baseline": "prompt_mean"}
    others = [
        client.post(f"{URL}/{kind}?store=true", json={"token_ids": IDS, **more}).json()
        for kind, more in (
            ("joint", {"neurons": ["1.5", "1.6"], "position": 4, "baseline": 0.3}),
            ("dose", {"neurons": ["1.5", "1.9"], "position": 6, "steps": 4}),
            ("heatmap", {"limit": 3}),  # to the reference mean
            ("heatmap", {**base, "limit": 3, "metric": "d_loss", "part": "direct"}),
            ("ledger", {"position": 7, "limit": 3, "k": 5}),
        )
    ]
    clip = {"neurons": ["1.5"], "clip": ["1.5", "1.9"], "controls": 2, "limit": 4}
    others += [
        client.post(f"{URL}/{kind}?store=true", json=more).json()
        for kind, more in (
            ("induction", {"kind": "random", "rows": 3, "length": 6, **clip}),
            ("induction", {"kind": "natural", "rows": 2, "length": 5, "copies": 3, "separator": ".", "corrupt": 1}),
            ("heads", {"rows": 3, "length": 6}),
        )
    ]
    books = [
        json.loads(client.get(answer["permalink"] + "/notebook.ipynb").text) for answer in (trace, effects, *others)
    ]
    whole = books[0]
    for number, book in enumerate(books[1:]):
        whole["cells"] += [{**cell, "id": f"b{number}-{cell['id']}"} for cell in book["cells"][1:]]
    printed = execute(json.dumps(whole), monkeypatch)
    assert printed.count("the numbers agree") == len(books)


NUMBERS = ("DRAWN", "AVERAGES")


@pytest.mark.parametrize("baseline", ["mean", "resample"])
def test_the_notebook_of_a_sweep_computes_its_tokens_and_averages_again(
    make_client: Callable[..., TestClient], model_folder: Path, monkeypatch: pytest.MonkeyPatch, baseline: str
) -> None:
    """Neurons of both layers; one stored number changed, and the cell fails; its rows gone, and there is none."""
    client = make_client()
    done = finished(client, started(client, neurons=["1.5", "0.3"], baseline=baseline, sample_tokens=4))
    link = done["permalink"] + "/notebook.ipynb"
    text = client.get(link).text
    assert str(model_folder) in text
    said = said_by(text, monkeypatch)
    assert said[-1] == "the numbers agree"
    counts = [line for line in said if line.startswith("row ")]
    assert len(counts) == done["n_rows"]
    source = json.loads(text)["cells"][2]["source"]
    drawn, averages = (literal_eval(source.partition(f"{name} = ")[2].partition("\n")[0]) for name in NUMBERS)
    at_a_token, over_all = drawn[0]["changes"]["0.3"]["direct.loss"], averages["0.3"]["direct.abs_loss"]
    for value, wrong in ((at_a_token, at_a_token + 0.5), (over_all, 1.2 * over_all + 0.001)):
        assert abs(value) > 1e-6
        with pytest.raises(AssertionError, match=r"0\.3"):
            said_by(text.replace(repr(value), repr(wrong)), monkeypatch)
    assert client.delete(f"/api/v1/sweeps/{done['id']}").status_code < 300
    gone = client.get(link, headers={"accept": "application/json"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "rows_gone")


def test_the_notebook_of_a_long_sweep_says_what_it_leaves_out(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of its rows stand there, and no average; tokens that lie all over the text cannot."""
    monkeypatch.setattr(spots, "MOST_TOKENS", 10)
    monkeypatch.setattr(spots, "ROWS", 1)
    client = make_client()
    done = finished(client, started(client, neurons=["1.5"]))
    said = said_by(client.get(done["permalink"] + "/notebook.ipynb").text, monkeypatch)
    assert len([line for line in said if line.startswith("row ")]) == 1 < done["n_rows"]
    assert said[-1].startswith("the drawn tokens agree; the averages are over more rows")
    done = finished(client, started(client, neurons=["1.5"], baseline="resample"))
    refused = client.get(done["permalink"] + "/notebook.ipynb", headers={"accept": "application/json"}).json()
    assert refused["error"]["code"] == "no_notebook"


def said_by(text: str, monkeypatch: pytest.MonkeyPatch, model: str | None = None) -> list[str]:
    """What a notebook's cells print, run in this process: a kernel takes ten seconds to start."""
    monkeypatch.delenv("NULLSCOPE_MODEL", raising=False)
    if model is not None:
        monkeypatch.setenv("NULLSCOPE_MODEL", model)
    said: list[str] = []
    scope: dict[str, object] = {"print": lambda *words: said.append(" ".join(map(str, words)))}
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    return said


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("gpt2", {"baseline": "reference"}),
        ("neox", {"baseline": "prompt", "target": "loss", "neurons": 0}),
        ("llama", {"baseline": "prompt", "target": {"token_id": 7}}),
        ("phi", {"baseline": "prompt"}),
        ("opt", {"baseline": "prompt"}),
        ("gemma", {"baseline": "prompt"}),
        ("gemma2", {"baseline": "prompt"}),
    ],
)
def test_the_notebook_of_a_split_has_torchs_own_gradients(
    name: str,
    asked: dict,
    make_client: Callable[..., TestClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every part, in both halves; a number changed, and the cell fails. With a norm behind the MLP: refused."""
    folder = tmp_path / name
    tiny.hf_model(name, dtype=torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "sample.jsonl").write_text(json.dumps({"text": "The cat sat on the mat. " * 8}) + "\n", "utf-8")
    client = make_client(models=(str(folder),))
    body = {"token_ids": IDS, "position": 6, "neurons": 3, **asked}
    told = client.post(f"/api/v1/models/{name}/why?store=true", json=body).json()
    answer = client.get(told["permalink"] + "/notebook.ipynb", headers={"accept": "application/json"})
    if name == "gemma2":
        assert answer.json()["error"]["code"] == "no_notebook"
        return
    assert "transformer_lens" not in answer.text.partition('"metadata"')[0]
    assert said_by(answer.text, monkeypatch)[-1] == "the numbers agree"
    total = told["parts"][0]["total"]
    with pytest.raises(AssertionError):
        said_by(answer.text.replace(repr(total), repr(total + 9)), monkeypatch)


@pytest.mark.parametrize("name", ["neox", "llama", "opt", "gemma2"])
def test_the_notebook_of_a_ledger_knows_no_architecture(
    name: str, make_client: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parallel blocks, RMSNorm with a gated MLP, biases; the cells run here. With a norm behind the MLP: refused."""
    folder = tmp_path / name
    tiny.hf_model(name, dtype=torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    client = make_client(models=(str(folder),))
    body = {"token_ids": IDS, "position": 7, "limit": 3, "k": 5}
    link = client.post(f"/api/v1/models/{name}/ledger?store=true", json=body).json()["permalink"]
    answer = client.get(link + "/notebook.ipynb", headers={"accept": "application/json"})
    if name == "gemma2":
        assert answer.json()["error"]["code"] == "no_notebook"
        return
    assert said_by(answer.text, monkeypatch)[-1] == "the numbers agree"


def test_where_a_model_lies_is_told_to_administrators_only(
    make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not know it is asked for it, in one sentence, and then has the same numbers."""
    keys = KeyFile(tmp_path / "users.json")
    people = {role: bearer(keys.add(role, role)) for role in ("run", "admin")}  # type: ignore[arg-type]
    client = make_client(auth_file=keys.path)
    link = client.post(f"{URL}/trace?store=true", json={"token_ids": IDS}, headers=people["run"]).json()["permalink"]
    texts = {role: client.get(link + "/notebook.ipynb", headers=of).text for role, of in people.items()}
    assert str(model_folder) in texts["admin"]
    assert str(model_folder) not in texts["run"]
    with pytest.raises(SystemExit, match="Set NULLSCOPE_MODEL to the folder of 'tiny-gpt2'"):
        said_by(texts["run"], monkeypatch)
    assert said_by(texts["run"], monkeypatch, model=str(model_folder))[-1] == "the numbers agree"


def test_what_has_no_notebook_says_so(client: TestClient) -> None:
    for path, body in (
        ("heatmap", {"token_ids": IDS, "part": "ln_only", "baseline": "zero"}),
        ("induction/attribution", {"neuron": "1.3", "rows": 2, "length": 5}),
    ):
        link = client.post(f"{URL}/{path}?store=true", json=body).json()["permalink"]
        refused = client.get(link + "/notebook.ipynb", headers={"accept": "application/json"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_notebook")
        assert client.get(link, params={"format": "json"}).json()["notebook"] is ("attribution" not in path)


def test_rows_that_cannot_be_had_back_are_refused(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    body = {"kind": "natural", "rows": 2, "length": 5}
    link = client.post(f"{URL}/induction?store=true", json=body).json()["permalink"]
    resident = client.app.state.host.entry("tiny-gpt2").replicas[0][1]  # type: ignore[attr-defined]
    (key,) = (key for key in resident.cache.held() if key.kind is DOCUMENTS)
    documents = resident.cache.get(key)
    documents[:] = [ids[::-1] for ids in documents]
    refused = client.get(link + "/notebook.ipynb", headers={"accept": "application/json"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_text")


def test_a_notebook_fails_when_the_numbers_are_others(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check in the notebook can fail: one stored number is changed."""
    client = make_client()
    answer = client.post(f"{URL}/trace?store=true", json={"token_ids": IDS}).json()
    text = client.get(answer["permalink"] + "/notebook.ipynb").text
    wrong = text.replace(repr(answer["clean"]["entropy"][3]), repr(answer["clean"]["entropy"][3] + 0.5))
    assert wrong != text
    with pytest.raises(Exception, match="not close"):
        said_by(wrong, monkeypatch)
    assert said_by(text, monkeypatch)[-1] == "the numbers agree"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(client: TestClient, text: str) -> None:
    link = client.post(f"{URL}/trace?store=true", json={"text": text}).json()["permalink"]
    for answer in (
        client.get(link, params={"format": "csv"}),
        client.get("/lab", params={"format": "csv", "who": "mine"}),
    ):
        for row in csv.DictReader(io.StringIO(answer.text)):
            for name, cell in row.items():
                if name in ("text", "preview"):
                    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (name, cell)


def test_a_notebook_holds_text_as_data(make_client: Callable[..., TestClient]) -> None:
    """Nothing that a person wrote becomes code or markup in a notebook: it has token ids only."""
    client = make_client()
    text = "'''); import os; <script>alert(1)</script>"
    link = client.post(f"{URL}/trace?store=true", json={"text": text}).json()["permalink"]
    notebook = client.get(link + "/notebook.ipynb").text
    assert "alert" not in notebook
    assert "import os;" not in notebook
