"""The pages of the atlas as page, fragment, JSON and CSV; what is refused, and how."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from starlette.testclient import TestClient

from analysis import published
from analysis.weights import Vocabulary
from app.atlas.charts import _known, _labelled
from app.atlas.view import Points
from app.cli import main
from app.core.weights_view import LabelView, SpeakingSweep, SweepEvidence
from app.neuron import charts
from app.neuron.summary import summary
from app.neuron.view import Live, NeuronView
from tests import tiny
from tests.app.conftest import copied_python
from tests.tolerance import EFFECT, near, of_metrics, of_pass

PAGES = ("/atlas", "/nullspace", "/frequency", "/m/tiny-gpt2/n/1.7", "/atlas/1.7")


@pytest.fixture(scope="module", autouse=True)
def _computed(client: TestClient) -> None:
    client.get("/api/v1/models/tiny-gpt2/neurons")


def fragment(client: TestClient, path: str, target: str) -> str:
    response = client.get(path, headers={"HX-Request": "true", "HX-Target": f"section#{target}"})
    assert response.status_code == 200, response.text
    return response.text


@pytest.mark.parametrize("path", PAGES)
def test_page_json_and_csv(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert "<!doctype html>" in page.text
    for script in re.findall(r'<script type="application/json">(.*?)</script>', page.text, re.S):
        json.loads(script)
    assert client.get(path, params={"format": "json"}).json()
    rows = list(csv.DictReader(io.StringIO(client.get(path, params={"format": "csv"}).text)))
    assert rows
    parquet = pq.read_table(io.BytesIO(client.get(path, params={"format": "parquet"}).content)).to_pylist()
    assert [list(row) for row in parquet] == [list(row) for row in rows]
    for typed, text in zip(parquet, rows, strict=True):
        for name, value in typed.items():
            same = str("" if value is None else value) == text[name].removeprefix("'")
            assert same, (name, value, text[name])
    assert "format=parquet" in page.text


@pytest.mark.parametrize(
    ("path", "form", "panels"),
    [
        ("/nullspace?k=7&layer=0", None, 5),
        ("/nullspace", {"text": 'The "cat" sat\non', "direction": "3"}, 5),
        ("/frequency", {"text": "The cat"}, 6),
        ("/m/tiny-gpt2/n/1.7?k=7", None, 1),
        ("/compare", None, 3),
    ],
)
def test_copied_python_reads_the_panel_again(
    client: TestClient,
    path: str,
    form: dict[str, str] | None,
    panels: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run as it is, it prints a part of what the same page gives as JSON."""
    page = client.post(path, data=form) if form else client.get(path)
    codes = copied_python(page.text)
    monkeypatch.setattr(httpx, "get", lambda url, timeout: client.get(url))
    monkeypatch.setattr(httpx, "post", lambda url, data, timeout: client.post(url, data=data))
    whole = client.post(path, params={"format": "json"}, data=form).json() if form else None
    assert len(codes) >= panels
    for code in codes:
        exec(code, {})
        printed = capsys.readouterr().out
        assert printed.strip() not in ("", "None", "[]", "{}"), code
        for part in ("walk", "prompt"):
            if whole and f'print(page["{part}"])' in code:
                assert printed.strip() == str(whole[part])


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/atlas?layer=0&sort=rho", "neurons"),
        ("/atlas?x=rho&y=kurtosis&color=skew&size=norm&layer=all", "map"),
        ("/nullspace?k=7&layer=0", "rho"),
        ("/nullspace?direction=0", "walk"),
        ("/m/tiny-gpt2/n/1.7?text=The+cat", "live"),
        ("/m/tiny-gpt2/n/0.3", "live"),
        ("/m/tiny-gpt2/n/1.7", "sample"),
        ("/m/tiny-gpt2/n/0.3", "sample"),
        ("/frequency?neuron=1.4", "shift"),
        ("/frequency?text=The+cat+sat", "prompt"),
    ],
)
def test_fragments_are_blocks_of_their_page(client: TestClient, path: str, target: str) -> None:
    html = fragment(client, path, target)
    assert "<!doctype" not in html
    assert f'id="{target}"' in html


def test_the_table_on_the_page_is_the_api_s(client: TestClient) -> None:
    page = client.get("/atlas", params={"format": "json", "layer": 1, "sort": "rho", "limit": 7}).json()
    api = client.get("/api/v1/models/tiny-gpt2/neurons", params={"layer": 1, "sort": "rho", "limit": 7}).json()
    assert page["table"] == api
    assert len(page["points"]["x"]) == 40
    assert len(page["points"]["control_x"]) == 40


def test_a_name_stands_once_on_the_map_however_many_labels_its_neuron_has() -> None:
    names = ["0.0", "0.1", "0.2"]
    labels = {"0.0": "token-frequency,partition", "0.1": "entropy,token-frequency,partition", "0.2": "entropy"}
    points = Points(
        neuron=names,
        x=[1.0, 2.0, 3.0],
        y=[1.0, 2.0, 3.0],
        labels=labels,
        known={"0.2": "of the paper"},
        color=[0.1, 0.2, 0.3],
        size=None,
        control_x=[],
        control_y=[],
    )
    x = y = np.array([1.0, 2.0, 3.0])
    traces = [*_labelled(points, x, y, "scatter"), _known(points, x, y)]
    assert sorted(text for trace in traces for text in trace["text"] if text) == names


def test_the_map_shows_every_layer(client: TestClient) -> None:
    page = client.get("/atlas", params={"format": "json", "layer": "all"}).json()
    assert len(page["points"]["neuron"]) == 80
    assert page["table"]["total"] == 80


def test_k_recomputes_rho_of_every_neuron(client: TestClient) -> None:
    small, large = (client.get("/nullspace", params={"format": "json", "k": k}).json() for k in (3, 24))
    one = near(1, tiny.D_MODEL, dtype=torch.float32)
    assert all(value == one for value in large["rho"])
    assert all(a < b for a, b in zip(small["rho"], large["rho"], strict=True))


def test_walking_along_a_null_direction_moves_no_logit_but_the_scale(client: TestClient) -> None:
    """The last direction but the trivial one is nearly null only if the model has one; the trivial one is exactly."""
    walk = client.get("/nullspace", params={"format": "json", "direction": 0, "reach": 2}).json()["walk"]
    assert max(walk["frozen_change"]) > 0.1  # along the largest direction everything moves
    assert walk["ln_scale"][len(walk["ln_scale"]) // 2] == pytest.approx(min(walk["ln_scale"]), rel=0.2)
    null = client.get("/nullspace", params={"format": "json", "direction": 23, "reach": 2}).json()["walk"]
    # A walk of twice the stream's length along it moves logits by what rounding leaves of the centring.
    assert max(null["frozen_change"]) < 3 * of_metrics(torch.float32)


def test_every_token_stands_in_one_bar_of_the_activations(client: TestClient) -> None:
    page = client.get("/m/tiny-gpt2/n/1.7", params={"format": "json", "text": "The cat sat on the mat"}).json()
    live = Live.model_validate(page["live"])
    bars = charts.activations(live).data[0]
    values = [value for value in live.activation[live.skip :] if value is not None]
    for (low, high), count in zip(bars.customdata, bars.y, strict=True):
        assert len([value for value in values if low <= value < high or value == high == max(values)]) == count
    assert sum(bars.y) == len(values) > 5
    drawn = fragment(client, "/m/tiny-gpt2/n/1.7?text=The+cat", "live")
    assert "Histogram of the neuron" in drawn


def test_a_neuron_at_work_agrees_with_the_effects(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change of entropy on the neuron's page is that of the effects table."""
    page = client.get("/m/tiny-gpt2/n/1.7", params={"format": "json", "text": "The cat sat"}).json()
    live = page["live"]
    body = {"token_ids": [token["id"] for token in live["tokens"]], "neurons": ["1.7"], "position": 4}
    row = client.post("/api/v1/models/tiny-gpt2/effects", json=body).json()["rows"][0]
    assert abs(live["activation"][4] - row["activation"]) < of_pass(dtype=torch.float32)
    assert abs(live["d_entropy"][4] - row["d_entropy"]["total"]) < 2 * EFFECT
    assert live["baseline"].startswith("mean over")
    assert [point["value"] for point in live["clamp"]] == [None, 0, 1, 2, 3, 4, 5, 6]
    sample = page["sample"]
    most = [moment["activation"] for moment in sample["most_active"]]
    assert most == sorted(most, reverse=True)
    assert sample["raises_entropy"][0]["d_entropy"] >= sample["lowers_entropy"][0]["d_entropy"]
    counts, edges = sample["activations"]["counts"], sample["activations"]["edges"]
    assert sum(counts) == sample["n_tokens"]  # this model has neither BOS nor a sink
    assert edges[0] < sample["mean"] < edges[-1]
    assert edges[-1] == pytest.approx(most[0])
    monkeypatch.setattr("analysis.sinks.leads_with_sink", lambda model: True)
    without = client.get("/api/v1/models/tiny-gpt2/neurons/1.7/sample").json()["activations"]["counts"]
    assert sum(without) < sum(counts)


def test_a_neuron_is_told_in_one_sentence_from_the_evidence_that_there_is(client: TestClient) -> None:
    told = client.get("/api/v1/models/tiny-gpt2/neurons/1.7").json()
    assert told["sentence"] in html.unescape(client.get("/m/tiny-gpt2/n/1.7").text)
    known = NeuronView.model_validate(told)
    by_weights = summary(known.model_copy(update={"weights": known.weights.model_copy(update={"labels": []})}))
    assert by_weights.startswith("1.7 carries no label: ")
    assert by_weights.endswith("; no sweep has measured what it does in texts.")
    label = LabelView(name="entropy", holds=True, suggested=True, basis="weights and sweep", conditions=[])
    found = SweepEvidence(
        te=0.2, de=0.1, ln_mediated_fraction=0.5, frequency_mediated_fraction=None, mean_abs_d_entropy=0.25,
        mean_abs_d_kl=None,
    )  # fmt: skip
    sweep = SpeakingSweep(
        id="a", source="b", rows=2, tokens=1234, baseline="mean", baseline_text="mean", dtype="float32", fits=True
    )
    weights = known.weights.model_copy(update={"labels": [label], "sweep": found})
    evidence = known.evidence.model_copy(update={"sweep": sweep})
    whole = summary(known.model_copy(update={"weights": weights, "evidence": evidence}))
    assert whole.startswith("1.7 is an entropy neuron by its weights and a sweep: ")
    assert whole.endswith(
        "and set to its mean it moves the entropy by 0.250 nats on average over 1,234 tokens, "
        "50 % of its effect on the loss through the LN scale."
    )


def test_holding_an_earlier_neuron_is_a_real_forward_pass(client: TestClient) -> None:
    live = client.get("/m/tiny-gpt2/n/0.3", params={"format": "json", "text": "The cat sat"}).json()["live"]
    assert live["d_entropy"] is None
    body = {
        "token_ids": [token["id"] for token in live["tokens"]],
        "interventions": [{"neuron": "0.3", "mode": "value", "value": 6.0}],
    }
    run = client.post("/api/v1/models/tiny-gpt2/trace", json=body).json()["intervened"]
    held = live["clamp"][-1]
    after = run["entropy"][live["skip"] :]
    assert abs(held["entropy"] - sum(after) / len(after)) < of_pass(dtype=torch.float32)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/m/tiny-gpt2/n/1.40", 404),
        ("/m/nobody/n/1.7", 404),
        ("/m/tiny-gpt2/n/x", 422),
        ("/atlas?model=nobody", 404),
        ("/atlas?layer=2", 404),
        ("/atlas?x=beauty", 422),
        ("/atlas?sort=beauty", 422),
        ("/atlas?surprise=1", 422),
        ("/nullspace?k=0", 422),
        ("/nullspace?reach=-1", 422),
        ("/frequency?neuron=0.3", 422),
        ("/frequency?neuron=1.99", 404),
    ],
)
def test_refusals(client: TestClient, path: str, status: int) -> None:
    """A page that there is stands, whatever a field of its form named that is not there."""
    response = client.get(path)
    assert response.status_code == (422 if "?" in path else status)
    assert "<!doctype html>" in response.text
    error = client.get(path, headers={"Accept": "application/json"})
    assert error.status_code == status
    assert error.json()["error"]["message"]


def test_empty_form_fields_mean_the_default(client: TestClient) -> None:
    assert client.get("/atlas?label=&min_rho=&neurons=&size=&k=").status_code == 200


def test_text_of_a_user_is_escaped(client: TestClient) -> None:
    html = client.get("/m/tiny-gpt2/n/1.7", params={"text": "</textarea><script>alert(1)</script>"}).text
    assert "<script>alert" not in html


# commands


@pytest.fixture
def shell(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NULLSCOPE_DATA_DIR", str(tmp_path))

    def run(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, [*args, *(() if args[0] == "reproduce" else ("--model", str(model_folder)))])
        assert result.exit_code == code, result.output
        return result.output

    return run


def test_commands_print_the_api_s_numbers(client: TestClient, shell: Any) -> None:
    for command, path in (
        (("neurons", "--layer", "1", "--limit", "3"), "neurons?layer=1&limit=3"),
        (("neuron", "1.7"), "neurons/1.7"),
        (("spectrum", "--k", "4"), "spectrum?k=4"),
        (("frequency",), "frequency"),
    ):
        assert json.loads(shell(*command, "--json")) == client.get(f"/api/v1/models/tiny-gpt2/{path}").json()
        assert shell(*command)


def test_tables_as_files(shell: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    shell("neurons", "--out", str(tmp_path / "all.parquet"))
    shell("neurons", "--out", str(tmp_path / "all.csv"))
    table = pq.read_table(tmp_path / "all.parquet")
    rows = list(csv.DictReader((tmp_path / "all.csv").open(encoding="utf-8")))
    assert table.num_rows == len(rows) == 80
    assert table.column("rho").to_pylist()[5] == float(rows[5]["rho"])
    shell("neurons", "--out", str(tmp_path / "all.xls"), code=2)


def test_counting_a_text(shell: Any, tmp_path: Path) -> None:
    import numpy as np

    text = tmp_path / "text.txt"
    text.write_text("abca", encoding="utf-8")
    shell("count", str(text), "--out", str(tmp_path / "c.npy"))
    counts = np.load(tmp_path / "c.npy", allow_pickle=False)
    assert sorted(counts[counts > 0]) == [1, 1, 2]
    assert counts.sum() == 4


def test_reproduce_says_what_holds_and_what_does_not(
    client: TestClient, shell: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a made-up literature: the true values of the tiny model, then one of them changed."""
    row = client.get("/api/v1/models/tiny-gpt2/neurons", params={"neurons": "1.7", "k": 5}).json()["rows"][0]
    value = (row["norm"], None, row["rho"])
    monkeypatch.setitem(published.WEIGHTS, "tiny-gpt2", (5, {"1.7": value}))
    good = shell("reproduce", str(model_folder))
    assert "2 of 2 published values" in good
    monkeypatch.setitem(published.WEIGHTS, "tiny-gpt2", (5, {"1.7": (2 * value[0], None, value[2])}))
    assert "1 of 2 published values" in shell("reproduce", str(model_folder), code=1)
    rows = client.get("/api/v1/models/tiny-gpt2/neurons", params={"layer": 1, "sort": "v_score", "limit": 5}).json()
    leading = tuple(int(each["neuron"].partition(".")[2]) for each in rows["rows"])
    monkeypatch.delitem(published.WEIGHTS, "tiny-gpt2")
    monkeypatch.setitem(published.BY_V, "tiny-gpt2", leading)
    monkeypatch.setattr(published, "Vocabulary", SimpleNamespace(of=lambda readout, **_: Vocabulary.of(readout)))
    assert "5 of 5 published values" in shell("reproduce", str(model_folder))
    monkeypatch.setitem(published.BY_V, "tiny-gpt2", (leading[1], leading[0], *leading[2:]))
    assert "3 of 5 published values" in shell("reproduce", str(model_folder), code=1)


def test_a_page_shows_how_far_the_table_is_and_returns_when_it_is_there(
    make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from analysis import atlas as numerics
    from app.atlas import routes

    go, compute = threading.Event(), numerics.compute

    def slowly(*args: Any) -> Any:
        steps = compute(*args)
        yield next(steps)
        go.wait()
        yield from steps

    monkeypatch.setattr(numerics, "compute", slowly)
    monkeypatch.setattr(routes, "PAGE_PATIENCE", 0.01)
    client = make_client()
    try:
        page = client.get("/atlas", params={"layer": 0})
        assert page.status_code == 200
        address = re.search(r'hx-get="([^"]*atlas-progress[^"]*)"', page.text)
        assert address is not None
        ask = address[1].replace("&amp;", "&")
        again = client.get(ask, headers={"HX-Request": "true", "HX-Target": "div#progress"})
        assert "Computing" in again.text or "Waiting" in again.text
        assert "<!doctype" not in again.text
    finally:
        go.set()
    client.app.state.atlases.job("tiny-gpt2").future.result()
    done = client.get(ask, headers={"HX-Request": "true", "HX-Target": "div#progress"})
    assert done.headers["HX-Redirect"] == "/atlas?layer=0"
    for elsewhere in ("https://example.org", "//example.org", "/\\example.org"):
        assert client.get("/m/tiny-gpt2/atlas-progress", params={"to": elsewhere}).status_code == 422


@pytest.mark.parametrize(
    ("path", "target"),
    [("/frequency", "prompt"), ("/nullspace", "walk"), ("/m/tiny-gpt2/n/1.7", "live"), ("/atlas/1.7", "live")],
)
def test_a_text_of_ones_own_goes_in_the_body(client: TestClient, path: str, target: str) -> None:
    """As page and fragment; no form asks for a text by address, where proxies' logs would keep it."""
    headers = {"HX-Request": "true", "HX-Target": f"section#{target}"}
    for given in ({}, headers):
        answer = client.post(path, data={"text": "zwei drei"}, headers=given)
        assert answer.status_code == 200, answer.text
        assert "zwei drei</textarea>" in answer.text
        assert "HX-Push-Url" not in answer.headers
    assert client.post(path, data={"text": "x" * 4001}).status_code == 422
    forms = re.findall(r"<form\b.*?</form>", client.get(path).text, re.S)
    assert not [form for form in forms if "<textarea" in form and ('method="get"' in form or "hx-get" in form)]
