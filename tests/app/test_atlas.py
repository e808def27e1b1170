"""The atlas through the API: names, rules, and numbers against the definitions written out; the cache and its
progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from analysis.atlas import Evidence
from analysis.labels import LABELS
from app.core.evidence import Findings
from app.core.residency.host import ModelHost
from tests import tiny
from tests.tolerance import near

API = "/api/v1/models/tiny-gpt2"
NOT_FOUND, INVALID = 404, 422


def get(client: TestClient, path: str, **query: Any) -> Any:
    response = client.get(f"{API}/{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def model_of(client: TestClient) -> Any:
    host: ModelHost = client.app.state.host  # type: ignore[attr-defined]
    return host.entry("tiny-gpt2").replicas[0][1].model


def test_every_neuron_of_every_layer_is_listed(client: TestClient) -> None:
    answer = get(client, "neurons", limit=1000)
    assert answer["total"] == 2 * 40
    assert {row["neuron"] for row in answer["rows"]} == {
        f"{layer}.{index}" for layer in range(2) for index in range(40)
    }
    row = answer["rows"][0]
    for name in ("norm", "norm_in", "cos_in_out", "logit_var", "skew", "kurtosis", "rho", "frequency_alignment"):
        assert isinstance(row[name], float)
    assert [label["name"] for label in row["labels"]] == list(LABELS)
    assert row["sweep"] is None
    assert {label["basis"] for label in row["labels"]} == {"weights only"}


def test_numbers_are_the_definitions(client: TestClient) -> None:
    """norm, LogitVar and rho of one neuron, written out again from the folded weights."""
    model = model_of(client)
    readout = model.readout
    answer = get(client, "neurons", neurons="1.7", k=5)
    row = answer["rows"][0]
    w = readout.W_out[7].double()
    W_U = readout.W_U.double()
    cosines = torch.cosine_similarity(W_U[:, : tiny.N_TOKENS].T, w[None], dim=1)
    U = torch.linalg.svd(W_U, full_matrices=True).U
    d, single = tiny.D_MODEL, torch.float32  # the folded weights are held in it
    assert row["norm"] == near(float(w.norm()), d, dtype=single)
    assert row["logit_var"] == near(float(cosines.var()), d, scale=1, dtype=single)
    assert row["rho"] == near(float((U[:, -5:].T @ w).norm() / w.norm()), d, scale=1, dtype=single)
    effect = (w @ W_U)[: tiny.N_TOKENS]
    assert row["raised"][0]["id"] == int(effect.argmax())
    products = float(w.norm() * W_U.norm(dim=0).max())
    assert row["lowered"][0]["effect"] == near(float(effect.min()), d, scale=products, dtype=single)


@pytest.mark.parametrize(("order", "sign"), [("desc", -1), ("asc", 1)])
def test_sorting(client: TestClient, order: str, sign: int) -> None:
    values = [row["rho"] for row in get(client, "neurons", sort="rho", order=order, limit=100)["rows"]]
    assert values == sorted(values, key=lambda value: sign * value)


def test_filters_and_pages(client: TestClient) -> None:
    whole = get(client, "neurons", layer=1, sort="norm", limit=100)["rows"]
    middle = whole[20]["norm"]
    some = get(client, "neurons", layer=1, sort="norm", min_norm=middle, limit=5, offset=3)
    assert some["total"] == 21
    assert [row["neuron"] for row in some["rows"]] == [row["neuron"] for row in whole[3:8]]
    assert {row["layer"] for row in some["rows"]} == {1}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("neurons?sort=beauty", INVALID, "invalid_request"),
        ("neurons?min_beauty=1", INVALID, "invalid_request"),
        ("neurons?min_rho=much", INVALID, "invalid_request"),
        ("neurons?min_rho=nan", INVALID, "invalid_request"),
        ("neurons?limit=0", INVALID, "invalid_request"),
        ("neurons?limit=1001", INVALID, "invalid_request"),
        ("neurons?k=0", INVALID, "invalid_request"),
        ("neurons?k=25", INVALID, "invalid_k"),
        ("neurons?label=clever", INVALID, "invalid_request"),
        ("neurons?neurons=1.7;drop", INVALID, "invalid_request"),
        ("neurons?beauty=1", INVALID, "invalid_request"),
        ("neurons?layer=2", NOT_FOUND, "no_such_layer"),
        ("neurons?neurons=1.40", NOT_FOUND, "no_such_neuron"),
        ("neurons/1.40", NOT_FOUND, "no_such_neuron"),
        ("neurons/seven", INVALID, "invalid_request"),
        ("neurons/1.7?k=99", INVALID, "invalid_k"),
        ("spectrum?k=25", INVALID, "invalid_k"),
        ("frequency?k=1", INVALID, "invalid_request"),
        ("reproduce", NOT_FOUND, "nothing_published"),
    ],
)
def test_what_cannot_be_answered(client: TestClient, path: str, status: int, code: str) -> None:
    response = client.get(f"{API}/{path}")
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


def test_unknown_models(client: TestClient) -> None:
    for path in ("neurons", "neurons/1.7", "spectrum", "frequency", "reproduce"):
        assert client.get(f"/api/v1/models/nobody/{path}").status_code == NOT_FOUND


def test_one_neuron(client: TestClient) -> None:
    answer = get(client, "neurons/1.7")
    assert (answer["previous"], answer["next"]) == ("1.6", "1.8")
    squares = sum(value**2 for value in answer["null_space_cosines"])
    assert squares == near(1, tiny.D_MODEL, dtype=torch.float32)
    tail = math.sqrt(sum(value**2 for value in answer["null_space_cosines"][-answer["k"] :]))
    assert answer["weights"]["rho"] == near(tail, tiny.D_MODEL, scale=1, dtype=torch.float32)
    assert sum(answer["effect_histogram"]["counts"]) == tiny.N_TOKENS
    assert [token["effect"] for token in answer["raised"]] == sorted(
        (token["effect"] for token in answer["raised"]), reverse=True
    )
    assert all(0 <= share <= 1 for share in answer["percentiles"].values() if share is not None)
    model = model_of(client)
    rows = model.write_rows(1)
    best = answer["nearest_out"][0]
    index = int(best["neuron"].partition(".")[2])
    cosine = float(torch.cosine_similarity(rows[7].double(), rows[index].double(), dim=0))
    assert best["cosine"] == near(cosine, tiny.D_MODEL, scale=1, dtype=torch.float32)
    assert get(client, "neurons/1.0")["previous"] is None
    assert get(client, "neurons/1.39")["next"] is None


def test_spectrum_and_its_switch(client: TestClient) -> None:
    centred, not_centred = get(client, "spectrum"), get(client, "spectrum", vocab_centred=False)
    readout = model_of(client).readout
    for answer, matrix in ((centred, readout.W_U), (not_centred, readout.uncentred().W_U)):
        expected = torch.linalg.svdvals(matrix.double())
        # The fold is exact to float32, and a singular value is off by rounding of the largest.
        n, largest = tiny.D_VOCAB + tiny.D_MODEL, float(expected.max())
        assert answer["singular_values"] == near(expected.tolist(), n, scale=largest, dtype=torch.float32)
    assert centred["vocab_centred"] is True
    assert not_centred["vocab_centred"] is False
    assert centred["trivial"] is True
    assert set(centred["rho_quantiles"]) == {"0", "1"}
    wide = get(client, "spectrum", k=24)["rho_quantiles"]["1"]
    assert wide["min"] == near(1, tiny.D_MODEL, dtype=torch.float32)


def test_frequency(client: TestClient) -> None:
    answer = get(client, "frequency")
    assert answer["source"] == "unigrams.npy"
    assert answer["entropy"] > 0
    assert answer["b_U"]["kl_unigram"] > 0
    assert -1 <= answer["b_U"]["correlation"] <= 1


def test_without_counts_alignment_is_null(
    model_folder: Path, tmp_path: Path, make_client: Callable[..., TestClient]
) -> None:
    import shutil

    folder = tmp_path / "tiny-gpt2"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("unigrams.npy"))
    client = make_client(models=(str(folder),))
    row = get(client, "neurons", limit=1)["rows"][0]
    assert row["frequency_alignment"] is None
    assert get(client, "frequency")["source"] is None
    label = next(label for label in row["labels"] if label["name"] == "token-frequency")
    assert (label["holds"], label["conditions"][0]["holds"]) == (False, None)
    assert client.get("/frequency").status_code == 200
    named = make_client(
        models=(str(folder),), counts=(str(model_folder / "unigrams.npy"),), data_dir=tmp_path / "other"
    )
    assert get(named, "frequency")["source"] == "unigrams.npy"


def test_the_table_is_kept_under_its_content_hash(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    first = get(make_client(), "neurons", limit=1000)
    (kept,) = (tmp_path / "data" / "atlas").glob("*.safetensors")
    before = kept.stat().st_mtime_ns
    assert get(make_client(), "neurons", limit=1000) == first
    assert kept.stat().st_mtime_ns == before


def test_evidence_of_a_sweep_is_shown_and_decides(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    found = {"1.7": Evidence(0.2, 0.1, 0.5, 0.1, 0.05, 0.02, {"te": (0.1, 0.3)})}
    client.app.state.sweeps.findings = lambda *asked: Findings(found)  # type: ignore[attr-defined]
    rows = {row["neuron"]: row for row in get(client, "neurons", layer=1, limit=100)["rows"]}
    assert rows["1.7"]["sweep"]["ln_mediated_fraction"] == 0.5
    assert rows["1.7"]["sweep"]["intervals"]["te"] == [0.1, 0.3]
    assert rows["1.7"]["labels"][0]["basis"] == "weights and sweep"
    assert rows["1.8"]["sweep"] is None
    assert [row["neuron"] for row in get(client, "neurons", sort="te", limit=1)["rows"]] == ["1.7"]


def test_thresholds_are_settings(make_client: Callable[..., TestClient]) -> None:
    client = make_client(label_thresholds={"kurtosis": 0.0, "kurtosis_chance": 0.0, "skew_chance": 0.0})
    names = {
        label["name"] for row in get(client, "neurons", limit=100)["rows"] for label in row["labels"] if label["holds"]
    }
    assert {"prediction", "suppression"} <= names
