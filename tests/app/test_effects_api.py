"""Heat map, joint sets, doses and ledger over the API: the same numbers as the table of effects and the trace."""

import json
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from analysis.model import Model
from tests import tiny
from tests.tolerance import EFFECT, LOG_PROB, near, of_metrics

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(12)
PROMPT = {"token_ids": IDS}
BETWEEN = 2 * EFFECT
"""Of two answers that each keep the contract."""

METRIC = of_metrics(torch.float32)


def post(client: TestClient, what: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"{URL}/{what}", json={**PROMPT, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def table(client: TestClient, position: int, **body: Any) -> dict[str, dict[str, Any]]:
    rows = post(client, "effects", position=position, limit=1000, **body)["rows"]
    return {row["neuron"]: row for row in rows}


@pytest.mark.parametrize("part", ["total", "direct", "ln_mediated", "ln_only", "frequency_mediated"])
def test_a_heat_map_is_every_table_at_once(client, part):
    body = post(client, "heatmap", part=part, metric="d_loss", limit=1000)
    assert body["done"] == body["cells"] == 12 * 40
    assert body["total"] == len(body["rows"]) == 40
    for position in (3, 7):
        expected = table(client, position)
        for row in body["rows"]:
            value = expected[row["neuron"]]["d_loss"][part]
            assert abs(row["values"][position] - value) < BETWEEN
    assert all(row["values"][-1] is None for row in body["rows"]), "no token follows the last one"


def test_rows_come_by_the_column_asked_for(client):
    by_mean = post(client, "heatmap", sort="mean_abs", limit=5)["rows"]
    sizes = [row["mean_abs"] for row in by_mean]
    assert len(by_mean) == 5
    assert sizes == sorted(sizes, reverse=True)
    by_neuron = post(client, "heatmap", sort="neuron", limit=3, neurons=["1.9", "1.3", "1.30"])["rows"]
    assert [row["neuron"] for row in by_neuron] == ["1.3", "1.9", "1.30"]


def test_a_set_of_one_is_the_single_effect_and_has_no_interaction(client):
    body = post(client, "joint", position=5, neurons=["1.7"])
    single = table(client, 5)["1.7"]
    for metric in ("d_entropy", "d_loss", "d_kl_unigram"):
        for part, value in single[metric].items():
            if part == "mlp_norm":  # no norm stands behind this model's MLP
                assert (value, body["joint"][metric][part]) == (None, None)
                continue
            assert abs(body["joint"][metric][part] - value) < BETWEEN
            assert abs(body["interaction"][metric][part]) < BETWEEN


def test_a_set_is_what_a_trace_with_all_its_interventions_shows(client):
    neurons = ["1.3", "1.9", "1.30"]
    body = post(client, "joint", position=5, neurons=neurons, baseline="zero")
    at = [{"neuron": name, "mode": "zero", "positions": [5]} for name in neurons]
    run = post(client, "trace", interventions=at)
    for metric, name in (("d_entropy", "entropy"), ("d_loss", "loss"), ("d_kl_unigram", "kl_unigram")):
        change = run["intervened"][name][5] - run["clean"][name][5]
        assert abs(body["joint"][metric]["total"] - change) < EFFECT + 2 * METRIC
        total = sum(row[metric]["total"] for row in body["rows"])
        assert body["sum"][metric]["total"] == near(total, 4, scale=LOG_PROB)
        interaction = body["interaction"][metric]["total"]
        assert interaction == near(body["joint"][metric]["total"] - total, 4, scale=LOG_PROB)
    scale = run["intervened"]["ln_scale"][5]
    assert body["ln_scale_after"] == near(scale, 2 * tiny.D_MODEL, dtype=torch.float32)


def test_a_dose_is_what_a_trace_with_that_value_shows(client):
    body = post(client, "dose", position=4, neurons=["1.3", "1.9"], low=-2, high=2, steps=5)
    assert [row["dose"] for row in body["rows"]] == [-2, -1, 0, 1, 2]
    row = body["rows"][3]
    at = [{"neuron": name, "mode": "value", "value": 1, "positions": [4]} for name in ("1.3", "1.9")]
    run = post(client, "trace", interventions=at)["intervened"]
    for name in ("entropy", "loss", "ln_scale", "top1_prob"):
        assert abs(row[name] - run[name][4]) < METRIC
    default = post(client, "dose", neurons=["1.3"], steps=3)
    marked = default["neurons"][0]
    assert (default["rows"][0]["dose"], default["rows"][-1]["dose"]) == (marked["low"], marked["high"])
    assert all(row["loss"] is None for row in default["rows"]), "the last token has no next one"


def test_a_ledger_sums_to_the_scale_of_the_trace(client):
    body = post(client, "ledger", position=6, k=4)
    run = post(client, "trace")["clean"]
    sizes = sum(abs(row["share"]) for row in body["rows"])
    n = tiny.D_MODEL + tiny.D_MLP  # what a component is a sum over, and its share
    assert body["total"] == near(run["ln_scale"][6] ** 2, n, dtype=torch.float32)
    shares = sum(row["share"] for row in body["rows"])
    assert shares + body["eps"] == near(body["total"], n, scale=sizes, dtype=torch.float32)
    assert sum(row["null"] for row in body["rows"]) == near(body["null_total"], n, scale=sizes)
    assert all(row["null"] + row["row"] == near(row["share"], n, scale=sizes) for row in body["rows"])
    assert {row["kind"] for row in body["rows"]} == {"embedding", "head", "mlp", "biases"}
    assert len(body["neurons"]) == 40


@pytest.mark.parametrize("scale", ["median", 1.5])
def test_without_layer_norm_nothing_is_mediated(client, scale):
    """Identity 8 through the API; the clean run changes too."""
    body = post(client, "heatmap", part="ln_mediated", ln_scale=scale, limit=1000)
    values = [value for row in body["rows"] for value in row["values"] if value is not None]
    assert max(map(abs, values)) < BETWEEN
    assert body["ln_scale"] == scale if scale != "median" else body["ln_scale"] > 0
    with_norm = post(client, "joint", position=5, neurons=["1.3"])
    without = post(client, "joint", position=5, neurons=["1.3"], ln_scale=scale)
    assert without["clean"]["ln_scale"] == near(body["ln_scale"], 1, dtype=torch.float32)
    assert abs(without["clean"]["entropy"] - with_norm["clean"]["entropy"]) > 10 * METRIC


@pytest.mark.parametrize(
    ("what", "body", "code"),
    [
        ("heatmap", {"metric": "kl", "part": "ln_only"}, "invalid_request"),
        ("heatmap", {"neurons": ["0.3"]}, "not_last_layer"),
        ("heatmap", {"ln_scale": 0}, "invalid_request"),
        ("joint", {"neurons": []}, "invalid_request"),
        ("joint", {"neurons": ["1.3", "1.3"]}, "duplicate_neuron"),
        ("joint", {"neurons": ["1.3"], "position": 12}, "position_out_of_range"),
        ("dose", {"neurons": ["1.3"], "low": 1, "high": 1}, "invalid_request"),
        ("dose", {"neurons": ["1.3"], "low": 99}, "empty_range"),
        ("ledger", {"k": 25}, "invalid_k"),
        ("ledger", {"position": 40}, "position_out_of_range"),
    ],
)
def test_impossible_requests_are_refused(client, what, body, code):
    response = client.post(f"{URL}/{what}", json={**PROMPT, **body})
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == code


@pytest.mark.parametrize("scale", ["median", 1.5])
def test_effects_without_layer_norm_are_direct_for_every_neuron(client, scale):
    """Identity 8, and the scale that is held is the same at both questions."""
    body = post(client, "effects", position=5, ln_scale=scale, limit=1000)
    assert len(body["rows"]) == 40
    for row in body["rows"]:
        for metric in ("d_entropy", "d_loss", "d_kl_unigram"):
            if row[metric]["total"] is not None:
                assert abs(row[metric]["total"] - row[metric]["direct"]) < BETWEEN
        assert row["ln_scale_after"] == row["ln_scale_before"] == near(body["ln_scale"], 1, dtype=torch.float32)
    assert any(abs(row["d_entropy"]["total"]) > 1e-4 for row in body["rows"])
    neuron, baseline = body["rows"][0]["neuron"], body["rows"][0]["baseline"]
    at = [{"neuron": neuron, "mode": "value", "value": baseline, "positions": [5]}]
    run = post(client, "trace", interventions=at, ln_scale=scale)
    assert run["ln_scale"] == body["ln_scale"]
    assert run["clean"]["ln_scale"] == near([body["ln_scale"]] * 12, 1, dtype=torch.float32)
    change = run["intervened"]["entropy"][5] - run["clean"]["entropy"][5]
    assert abs(change - body["rows"][0]["d_entropy"]["total"]) < EFFECT + 2 * METRIC
    assert post(client, "trace")["ln_scale"] is None


def test_without_layer_norm_a_whole_run_is_the_logits_divided_by_a_constant(client):
    """The scale held at what it is at one token gives that token's own numbers, and others elsewhere."""
    plain = post(client, "trace")["clean"]
    held = post(client, "trace", ln_scale=plain["ln_scale"][3])["clean"]
    assert abs(held["entropy"][3] - plain["entropy"][3]) < METRIC
    assert abs(held["entropy"][8] - plain["entropy"][8]) > 10 * METRIC


def lines(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    response = client.post(f"{URL}/heatmap", json={**PROMPT, **body}, headers={"Accept": "application/x-ndjson"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_heat_map_comes_in_lines_to_whom_asks_for_them(client):
    """The first line has the tokens and no cell yet, the last is the answer that a plain request gets."""
    found = lines(client, part="direct", limit=5)
    assert len(found) >= 2
    assert found[0]["done"] == 0
    assert all(value is None for row in found[0]["rows"] for value in row["values"])
    assert [view["done"] for view in found] == sorted(view["done"] for view in found)
    whole = post(client, "heatmap", part="direct", limit=5)
    assert {**found[-1], "permalink": None} == {**whole, "permalink": None}
    assert whole["done"] == whole["cells"]


def test_a_refused_heat_map_has_its_status_in_lines_too(client):
    response = client.post(
        f"{URL}/heatmap", json={**PROMPT, "neurons": ["0.3"]}, headers={"Accept": "application/x-ndjson"}
    )
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "not_last_layer"


def test_the_change_of_the_reciprocal_rank_is_a_column_at_every_door(client: TestClient) -> None:
    """The column that was declared in one place: the API's JSON and CSV, sorting, filtering, the page, the shell."""
    url, body = "/api/v1/models/tiny-gpt2", {"text": "The dog sat, and left.", "position": 3}
    told = client.post(f"{url}/effects", json={**body, "sort": "d_reciprocal_rank", "limit": 40}).json()
    changes = [row["d_reciprocal_rank"] for row in told["rows"]]
    assert [abs(change) for change in changes] == sorted((abs(change) for change in changes), reverse=True)
    assert any(changes)
    name, change = told["rows"][0]["neuron"], changes[0]
    ablated = {"neuron": name, "mode": "mean", "positions": [3]}
    run = client.post(f"{url}/trace", json={"text": body["text"], "interventions": [ablated]}).json()
    before, after = (1 / (run[which]["rank"][3] + 1) for which in ("clean", "intervened"))
    assert change == pytest.approx(after - before, abs=1e-9)
    few = client.post(f"{url}/effects", json={**body, "min_d_reciprocal_rank": 1e-9}).json()["total"]
    assert few == sum(change > 0 for change in changes)
    table = client.post(f"{url}/effects", json={**body, "limit": 2}, headers={"accept": "text/csv"}).text
    assert "d_reciprocal_rank" in table.splitlines()[0]
    page = client.post("/", data={"model": "tiny-gpt2", "text": body["text"], "pos": 3}).text
    assert "Δ 1/(rank + 1)" in page
    at_the_end = client.post(f"{url}/effects", json={"text": body["text"], "limit": 1}).json()["rows"][0]
    assert at_the_end["d_reciprocal_rank"] is None


def test_the_lens_ends_at_the_trace_at_every_door(client: TestClient) -> None:
    url, body = "/api/v1/models/tiny-gpt2", {"text": "The dog sat"}
    told = client.post(f"{url}/lens?store=true", json={**body, "top_k": 2}).json()
    run = client.post(f"{url}/trace", json={**body, "top_k": 2}).json()["clean"]
    last = told["layers"][-1]
    assert last["entropy"] == pytest.approx(run["entropy"], abs=1e-5)
    assert last["loss"][:-1] == pytest.approx(run["loss"][:-1], abs=1e-5)
    assert last["loss"][-1] is None
    assert [token["id"] for token in last["top"][3]] == [token["id"] for token in run["top"][3]]
    assert [layer["name"] for layer in told["layers"]] == ["embed", "L0.attn", "L0.mlp", "L1.attn", "L1.mlp"]
    table = client.post(f"{url}/lens", json=body, headers={"accept": "text/csv"}).text.splitlines()
    assert len(table) == 1 + 5 * len(told["tokens"])
    saved = client.get(f"/api/v1/results/{told['permalink'].rpartition('/')[2]}").json()
    assert saved["verdict"] == "recomputed"
    frozen = client.post(f"{url}/lens", json={**body, "scale": "frozen"}).json()
    assert frozen["layers"][0]["ln_scale"] == pytest.approx(last["ln_scale"], abs=1e-5)


def test_a_prompt_runs_once_whatever_is_asked_of_it(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[object] = []
    run = Model.run
    monkeypatch.setattr(Model, "run", lambda self, *args, **kwargs: passes.append(1) or run(self, *args, **kwargs))
    body = {"token_ids": [7, 3, 5, 9, 11]}
    whole = post(client, "effects", **body)
    post(client, "effects", **body, position=2, baseline="zero", sort="d_loss.direct")
    post(client, "effects", **body, ln_scale="median")
    post(client, "trace", **body, top_k=3)
    assert len(passes) == 1
    assert post(client, "effects", **body, limit=1)["rows"][0]["d_entropy"] == whole["rows"][0]["d_entropy"]
    post(client, "effects", token_ids=[7, 3, 5, 9, 12])
    assert len(passes) == 2
