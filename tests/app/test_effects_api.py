"""Heat map, joint sets, doses and ledger over the API: the same numbers as the table of effects and the trace."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests import tiny

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(12)
PROMPT = {"token_ids": IDS}


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
            assert row["values"][position] == pytest.approx(value, abs=2e-6)
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
            assert body["joint"][metric][part] == pytest.approx(value, abs=2e-6)
            assert body["interaction"][metric][part] == pytest.approx(0, abs=4e-6)


def test_a_set_is_what_a_trace_with_all_its_interventions_shows(client):
    neurons = ["1.3", "1.9", "1.30"]
    body = post(client, "joint", position=5, neurons=neurons, baseline="zero")
    at = [{"neuron": name, "mode": "zero", "positions": [5]} for name in neurons]
    run = post(client, "trace", interventions=at)
    for metric, name in (("d_entropy", "entropy"), ("d_loss", "loss"), ("d_kl_unigram", "kl_unigram")):
        change = run["intervened"][name][5] - run["clean"][name][5]
        assert body["joint"][metric]["total"] == pytest.approx(change, abs=1e-5)
        total = sum(row[metric]["total"] for row in body["rows"])
        assert body["sum"][metric]["total"] == pytest.approx(total, abs=1e-12)
        interaction = body["interaction"][metric]["total"]
        assert interaction == pytest.approx(body["joint"][metric]["total"] - total, abs=1e-12)
    assert body["ln_scale_after"] == pytest.approx(run["intervened"]["ln_scale"][5], rel=1e-6)


def test_a_dose_is_what_a_trace_with_that_value_shows(client):
    body = post(client, "dose", position=4, neurons=["1.3", "1.9"], low=-2, high=2, steps=5)
    assert [row["dose"] for row in body["rows"]] == [-2, -1, 0, 1, 2]
    row = body["rows"][3]
    at = [{"neuron": name, "mode": "value", "value": 1, "positions": [4]} for name in ("1.3", "1.9")]
    run = post(client, "trace", interventions=at)["intervened"]
    for name in ("entropy", "loss", "ln_scale", "top1_prob"):
        assert row[name] == pytest.approx(run[name][4], abs=1e-5)
    default = post(client, "dose", neurons=["1.3"], steps=3)
    marked = default["neurons"][0]
    assert (default["rows"][0]["dose"], default["rows"][-1]["dose"]) == (marked["low"], marked["high"])
    assert all(row["loss"] is None for row in default["rows"]), "the last token has no next one"


def test_a_ledger_sums_to_the_scale_of_the_trace(client):
    body = post(client, "ledger", position=6, k=4)
    run = post(client, "trace")["clean"]
    assert body["total"] == pytest.approx(run["ln_scale"][6] ** 2, rel=1e-5)
    assert sum(row["share"] for row in body["rows"]) + body["eps"] == pytest.approx(body["total"], rel=1e-5)
    assert sum(row["null"] for row in body["rows"]) == pytest.approx(body["null_total"], rel=1e-9)
    assert all(row["null"] + row["row"] == pytest.approx(row["share"], abs=1e-12) for row in body["rows"])
    assert {row["kind"] for row in body["rows"]} == {"embedding", "head", "mlp", "biases"}
    assert len(body["neurons"]) == 40


@pytest.mark.parametrize("scale", ["median", 1.5])
def test_without_layer_norm_nothing_is_mediated(client, scale):
    """Identity 8 through the API; the clean run changes too."""
    body = post(client, "heatmap", part="ln_mediated", ln_scale=scale, limit=1000)
    values = [value for row in body["rows"] for value in row["values"] if value is not None]
    assert max(map(abs, values)) < 1e-5
    assert body["ln_scale"] == scale if scale != "median" else body["ln_scale"] > 0
    with_norm = post(client, "joint", position=5, neurons=["1.3"])
    without = post(client, "joint", position=5, neurons=["1.3"], ln_scale=scale)
    assert without["clean"]["ln_scale"] == pytest.approx(body["ln_scale"])
    assert without["clean"]["entropy"] != pytest.approx(with_norm["clean"]["entropy"])


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
                assert row[metric]["total"] == pytest.approx(row[metric]["direct"], abs=2e-6)
        assert row["ln_scale_after"] == row["ln_scale_before"] == pytest.approx(body["ln_scale"])
    assert any(abs(row["d_entropy"]["total"]) > 1e-4 for row in body["rows"])
    neuron, baseline = body["rows"][0]["neuron"], body["rows"][0]["baseline"]
    at = [{"neuron": neuron, "mode": "value", "value": baseline, "positions": [5]}]
    run = post(client, "trace", interventions=at, ln_scale=scale)
    assert run["ln_scale"] == body["ln_scale"]
    assert run["clean"]["ln_scale"] == pytest.approx([body["ln_scale"]] * 12)
    change = run["intervened"]["entropy"][5] - run["clean"]["entropy"][5]
    assert change == pytest.approx(body["rows"][0]["d_entropy"]["total"], abs=1e-5)
    assert post(client, "trace")["ln_scale"] is None


def test_without_layer_norm_a_whole_run_is_the_logits_divided_by_a_constant(client):
    """The scale held at what it is at one token gives that token's own numbers, and others elsewhere."""
    plain = post(client, "trace")["clean"]
    held = post(client, "trace", ln_scale=plain["ln_scale"][3])["clean"]
    assert held["entropy"][3] == pytest.approx(plain["entropy"][3], abs=1e-5)
    assert held["entropy"][8] != pytest.approx(plain["entropy"][8], abs=1e-5)


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
