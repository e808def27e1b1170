"""`nullscope sweep`: a run folder without a server, with the server's bytes; every subcommand and what it refuses."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from analysis.model import load
from analysis.registry import ModelSpec
from analysis.store import RunFolder
from analysis.sweep.run import read
from app.cli import main
from app.sweep.answer import ground
from app.sweep.offline import Finished, resident
from app.sweep.request import FigureQuery
from tests.app.test_sweep_api import SMALL, data_dir, finished, started

FLAGS = ["--rows", "2", "--length", "24", "--shard-rows", "1", "--bootstrap", "20", "--sample-tokens", "16"]
SHARDS = 2


def sweep(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["sweep", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def done(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    result = sweep("run", folder, "--model", model_folder, "--backend", "eager", *FLAGS)
    assert "tokens x 40 neurons" in result.stdout
    assert "effects 2 of 2 shards" in result.stderr
    return folder


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(done, tmp_path / "run")


def unfinish(run: Path, shard: int) -> None:
    """As if it had been killed before that shard of effects was written."""
    (run / "result.json").unlink()
    next((run / "effects").glob(f"{shard:05d}.*")).unlink()


def test_a_server_gives_the_same_bytes(client: TestClient, done: Path) -> None:
    sweep_id = finished(client, started(client))["id"]
    assert files(data_dir(client) / "sweeps" / sweep_id) == files(done)


def test_status(run: Path) -> None:
    assert sweep("status", run).stdout.splitlines()[1] == "finished"
    unfinish(run, 1)
    lines = sweep("status", run).stdout.splitlines()
    assert lines == ["tiny-gpt2 over sample text of tiny-gpt2: 2 rows, 2 shards", "baselines 2 of 2, effects 1 of 2"]
    found = json.loads(sweep("status", run, "--json").stdout)
    assert (found["finished"], found["shards"], found["effects"]) == (False, SHARDS, 1)
    assert found["manifest"]["config"]["length"] == SMALL["length"]


def test_resume_does_what_is_left(run: Path, done: Path, model_folder: Path) -> None:
    unfinish(run, 0)
    result = sweep("resume", run, "--model", model_folder)
    assert "baselines 2 of 2" in result.stderr
    assert "effects 1 of 2" in result.stderr
    assert files(run) == files(done)
    assert "tokens x 40 neurons" in sweep("resume", run, "--model", model_folder).stdout  # nothing is left to do


def test_another_config_or_text_is_refused(run: Path, done: Path, model_folder: Path, tmp_path: Path) -> None:
    again = ("run", run, "--model", model_folder, "--backend", "eager", *FLAGS)
    assert "differs in: config" in sweep(*again, "--seed", "1", code=2).stderr
    (tmp_path / "other.txt").write_text("Another text, long enough for a row.")
    assert "differs in: corpus" in sweep(*again, "--corpus", tmp_path / "other.txt", code=2).stderr
    sweep(*again)
    assert files(run) == files(done)


def test_export(run: Path, tmp_path: Path) -> None:
    table, lines = tmp_path / "new" / "table.parquet", tmp_path / "table.csv"
    assert "40 neurons" in sweep("export", run, "--out", table).stdout
    sweep("export", run, "--out", lines)
    expected = pq.read_table(table)
    found = list(csv.DictReader(lines.open()))
    assert [row["neuron"] for row in found] == [f"1.{index}" for index in range(40)]
    for name in ("total.abs_entropy", "ln_fraction", "total.abs_loss.low"):
        values = expected.column(name).to_pylist()
        assert [float(row[name]) if row[name] else None for row in found] == [
            None if value != value else value for value in values
        ]


def test_figures_are_the_servers(client: TestClient, run: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures"
    said = sweep("figures", run, "--out", out, "--model", model_folder).stdout
    assert len(said.splitlines()) == 16
    assert len(list(out.glob("figure-*.csv"))) == len(list(out.glob("figure-*.html"))) == 16
    sweep_id = finished(client, started(client))["id"]
    asked = client.get(f"/api/v1/sweeps/{sweep_id}/figures/2e").json()["rows"]
    found = list(csv.DictReader((out / "figure-2e.csv").open()))
    assert [row["label"] for row in found] == [point["label"] for point in asked]
    assert [float(row["x"]) for row in found] == [point["x"] for point in asked]


def test_figures_take_the_pages_controls(client: TestClient, run: Path, model_folder: Path, tmp_path: Path) -> None:
    controls = {"neuron": "1.3", "top": "2", "k": "5", "seed": "4"}
    given = [part for name, value in controls.items() for part in ("-k" if name == "k" else f"--{name}", value)]
    sweep("figures", run, "--out", tmp_path, "--model", model_folder, *given)
    sweep_id = finished(client, started(client))["id"]
    for name in ("2e", "4a"):
        asked = client.get(f"/api/v1/sweeps/{sweep_id}/figures/{name}", params=controls).json()["rows"]
        found = list(csv.DictReader((tmp_path / f"figure-{name}.csv").open()))
        assert [float(row["x"]) for row in found] == [point["x"] for point in asked]
    bad = sweep("figures", run, "--out", tmp_path, "--model", model_folder, "--top", "41", code=2)
    assert "top" in bad.stderr


def test_a_neuron_is_the_servers(client: TestClient, run: Path, model_folder: Path, tmp_path: Path) -> None:
    on_model = ("--model", model_folder)
    found = json.loads(sweep("neuron", run, "1.3", "--json", *on_model).stdout)
    sweep_id = finished(client, started(client))["id"]
    assert found == client.get(f"/api/v1/sweeps/{sweep_id}/neurons/1.3").json() | {"sweep": "run"}
    said = sweep("neuron", run, "1.3", "--examples", "1", "--out", tmp_path / "examples.csv", *on_model).stdout
    assert f"{found['row']['total']['abs_entropy']:.5g}" in said
    assert "activation, largest" in said
    rows = list(csv.DictReader((tmp_path / "examples.csv").open(encoding="utf-8")))
    assert [float(row["value"]) for row in rows] == [
        example["value"] for part in found["lists"] for example in part["examples"]
    ]
    assert "1.400 is not in this sweep" in sweep("neuron", run, "1.400", *on_model, code=2).stderr


def test_calibration_is_the_servers(client: TestClient, run: Path, model_folder: Path, tmp_path: Path) -> None:
    asked = {"neurons": "1.3 1.5", "controls": 2, "bins": 5, "rows": 2, "seed": 3, "top": 3}
    given = [part for name, value in asked.items() if name != "neurons" for part in (f"--{name}", value)]
    args = ("calibration", run, "-n", "1.3", "-n", "1.5", *given, "--model", model_folder)
    found = json.loads(sweep(*args, "--json").stdout)
    sweep_id = finished(client, started(client))["id"]
    assert found == client.get(f"/api/v1/sweeps/{sweep_id}/calibration", params=asked).json() | {"sweep": "run"}
    said = sweep(*args, "--out", tmp_path / "bins.parquet").stdout
    assert [line.split()[0] for line in said.splitlines()[1:5]] == ["clean", "ablated", "random", "random"]
    assert pq.read_table(tmp_path / "bins.parquet").num_rows == 4 * 5
    assert "controls" in sweep(*args, "--controls", "101", code=2).stderr


def test_two_sweeps_compared_are_the_servers(client: TestClient, run: Path, model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "zero"
    sweep("run", other, "--model", model_folder, "--backend", "eager", *FLAGS, "--baseline", "zero")
    found = json.loads(sweep("compare", run, other, "--column", "direct.abs_loss", "--limit", "7", "--json").stdout)
    a, b = (finished(client, started(client, **changes))["id"] for changes in ({}, {"baseline": "zero"}))
    query = {"a": a, "b": b, "column": "direct.abs_loss", "limit": 7}
    told = client.get("/api/v1/sweeps/compare", params=query).json()
    own = {"a", "b", "choices"}
    assert {name: found[name] for name in found if name not in own} == {
        name: told[name] for name in told if name not in own
    }
    assert [side["baseline"] for side in (found["a"], found["b"])] == ["mean", "zero"]
    said = sweep("compare", run, other).stdout
    assert "the same weights" in said
    assert "20 of 40 neurons" in said
    manifest = other / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"weights_sha256": "0" * 64}))
    assert "OTHER WEIGHTS" in sweep("compare", run, other).stdout
    assert "no column 'x'" in sweep("compare", run, other, "--column", "x", code=2).stderr


def test_an_estimate_is_of_what_the_run_then_does(run: Path, model_folder: Path, client: TestClient) -> None:
    flags = ["--model", model_folder, "--backend", "eager", *FLAGS]
    found = json.loads(sweep("estimate", *flags, "--json").stdout)
    manifest = json.loads((run / "manifest.json").read_text())
    assert (found["rows"], found["neurons"]) == (manifest["corpus"]["rows"], 40)
    told = client.post("/api/v1/sweeps/estimate", json=SMALL).json()
    timed = {"seconds", "at_most", "memory_bytes"}
    assert {name: found[name] for name in found if name not in timed} == {
        name: told[name] for name in told if name not in timed
    }
    assert "seconds" in sweep("estimate", *flags).stdout
    assert "--max-documents" in sweep("estimate", *flags, "--corpus", "hub:a/b", code=2).stderr


@pytest.mark.parametrize("ships", [True, False])
def test_figures_tell_labels_where_the_atlas_does(ships: bool, model_folder: Path, tmp_path: Path) -> None:
    """A part of a layer speaks for labels where it ships with the model; a neuron of another layer has none."""
    home = shutil.copytree(model_folder, tmp_path / "model")
    run = home / "sweep" if ships else tmp_path / "run"
    sweep("run", run, "--model", home, "--backend", "eager", "--neurons", "0.2,1.3,1.5", *FLAGS)
    folder, model = RunFolder(run), load(ModelSpec("tiny", folder=home))
    result = read(folder)
    assert result is not None
    done = Finished(resident(model, None), folder, result)
    limits = {name: 0.0 for name in ("entropy_rho", "entropy_rho_chance", "ln_mediated", "effect")}
    changes = {"label_thresholds": {**limits, "entropy_logit_var": 99.0}}
    done.resident.settings = done.resident.settings.model_copy(update=changes)
    found = ground(done.resident, done.atlas, result, folder, FigureQuery()).labelled
    names = found and {str(result.neurons[place]) for place in found}
    assert (found is not None) == ships
    assert not names or names <= {"1.3", "1.5"}


def test_no_figure_mixes_a_sweep_with_other_weights(run: Path, model_folder: Path, tmp_path: Path) -> None:
    manifest = run / "manifest.json"
    wrong = json.loads(manifest.read_text()) | {"weights_sha256": "0" * 64}
    manifest.write_text(json.dumps(wrong))
    for args in (("figures", run, "--out", tmp_path / "figures"), ("neuron", run, "1.3"), ("calibration", run)):
        assert "other weights" in sweep(*args, "--model", model_folder, code=2).stderr
    assert not (tmp_path / "figures").exists()


def test_what_cannot_be_done_is_said(run: Path, done: Path, model_folder: Path, tmp_path: Path) -> None:
    unfinish(run, 0)
    text = tmp_path / "text.csv"
    text.write_text("a,b")
    begin = ("run", tmp_path / "new", "--model", model_folder)
    for args, said in (
        (("export", run, "--out", tmp_path / "a.csv"), "is not finished"),
        (("figures", run, "--out", tmp_path / "a", "--model", model_folder), "nullscope sweep resume"),
        (("export", done, "--out", tmp_path / "a.xlsx"), "must end in .csv or .parquet"),
        (("status", tmp_path / "none"), "There is no manifest.json"),
        (("resume", tmp_path / "none", "--model", model_folder), "There is no manifest.json"),
        ((*begin, "--corpus", tmp_path / "none.txt"), "There is no file"),
        ((*begin, "--corpus", text), "no kind of text"),
        ((*begin, "--neurons", "1.400"), "1.400"),
        ((*begin, "--baseline", "median"), "'median' is not a baseline"),
        ((*begin, "--corpus", "hub:x?splt=train"), "hub:DATASET"),
        (("run", tmp_path / "new", "--model", "no-such-model"), "no-such-model"),
    ):
        assert said in sweep(*args, code=2).stderr, args
    assert not (tmp_path / "new").exists()


def test_a_dataset_of_the_hub_is_streamed(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the hub: only what is wanted is read, and the run names where it came from."""
    asked, given = [], []

    def load_dataset(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        for n in range(1000):
            given.append(n)
            yield {"body": f"Record {n} is long enough for one row of tokens.", "text": None}

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    run = tmp_path / "run"
    corpus = "hub:someone/books?config=small&split=test&column=body"
    flags = ["--max-documents", "3", "--neurons", "1.3", *FLAGS]
    sweep("run", run, "--model", model_folder, "--corpus", corpus, "--backend", "eager", *flags)
    assert asked == [(("someone/books", "small"), {"split": "test", "streaming": True})]
    assert len(given) == 3
    manifest = json.loads(sweep("status", run, "--json").stdout)["manifest"]
    assert (manifest["corpus"]["source"], manifest["corpus"]["documents"]) == (corpus, 3)


def test_a_hub_that_does_not_answer(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach 'someone/books' on the Hub")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    said = sweep("run", tmp_path / "run", "--model", model_folder, "--corpus", "hub:someone/books", code=2).stderr
    assert "'someone/books'" in said
    assert "this machine reaches the hub" in said
    assert not (tmp_path / "run").exists()
