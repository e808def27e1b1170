"""The atlas of a listed model before its weights are here: what ships of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from starlette.testclient import TestClient

from analysis import atlas, frequency, nullspace, shipped_atlas
from analysis.model import Model
from analysis.registry import PACKAGED
from analysis.types import InputError
from app.cli import main
from tests.tolerance import within

SMOLLM2 = "smollm2-135m"
JSON = {"accept": "application/json"}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_is_read_is_what_was_computed(tiny_model: Callable[..., Model], kind: str, tmp_path: Path) -> None:
    """To float32, and with the readout also the spectrum that is not centred over the vocabulary."""
    model = tiny_model(kind, dtype=torch.float32)
    *_, last = atlas.compute(model)
    assert last.result is not None
    shipped_atlas.write(tmp_path / "atlas.npz", model, last.result, None, {"torch": "any"})
    found = shipped_atlas.read(tmp_path / "atlas.npz")
    assert found.of(model, None)
    assert not found.of(model, "other counts")
    assert list(found.token_texts) == model.token_texts(range(model.d_vocab))
    whole = found.whole(model.readout)
    for name in ("table", "controls"):
        for field in fields(getattr(whole, name)):
            made, read = (getattr(getattr(each, name), field.name) for each in (last.result, whole))
            if made is None or made.dtype == torch.int64:
                assert made is read or torch.equal(made, read), field.name
            else:
                within(read, made, 1e-6 * float(made.double().nan_to_num().abs().max()), equal_nan=True)
    scale = float(last.result.uncentred.S[0])
    within(whole.uncentred.S, last.result.uncentred.S, 1e-6 * scale)
    assert (whole.spectrum.k, whole.spectrum.knee) == (last.result.spectrum.k, last.result.spectrum.knee)
    k = whole.spectrum.k
    rho = nullspace.rho(model.write_rows(0), last.result.spectrum.basis(k))
    within(found.rho[k][0], rho.cpu(), 1e-6)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "atlas.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="holds no atlas"):
        shipped_atlas.read(tmp_path / "atlas.npz")


def test_the_page_is_there_before_the_weights(client: TestClient) -> None:
    """It says so, and how to get them; nothing on it leads to what needs them."""
    page = client.get(f"/atlas?model={SMOLLM2}")
    assert page.status_code == 200
    assert "are not loaded here" in page.text
    assert f"make serve MODEL={SMOLLM2}" in page.text
    assert f"/m/{SMOLLM2}/n/" not in page.text
    answer = client.get(f"/atlas?model={SMOLLM2}&format=json&label=entropy").json()
    assert (answer["n_layers"], answer["d_mlp"], answer["weights_here"]) == (30, 1536, False)
    assert {"29.830", "29.1022"} <= {row["neuron"] for row in answer["table"]["rows"]}
    assert len(answer["points"]["neuron"]) == 1536
    assert answer["table"]["provenance"]["dequantized"].startswith("Q4_1")
    assert client.get("/atlas").status_code == 200, "the model at hand is still one that is served"


def test_every_layer_is_there_and_only_the_stored_k(client: TestClient) -> None:
    asked = {"model": SMOLLM2, "format": "json"}
    every = client.get("/atlas", params=asked | {"layer": "all", "sort": "rho", "limit": "5"}).json()
    assert every["table"]["total"] == 30 * 1536
    share = client.get("/atlas", params=asked | {"k": "6"}).json()
    assert share["table"]["k"] == 6
    refused = client.get("/atlas", params=asked | {"k": "40"})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "needs_weights"
    assert client.get("/atlas", params=asked | {"layer": "30"}).status_code == 404


def test_page_api_and_command_say_the_same_before_the_weights(client: TestClient, tmp_path: Path) -> None:
    """And no door fetches weights for what it needs none for."""
    asked = {"label": "entropy", "sort": "rho_share", "limit": "5"}
    shown = client.get("/atlas", params=asked | {"model": SMOLLM2, "layer": "all"}, headers=JSON).json()["table"]
    told = client.get(f"/api/v1/models/{SMOLLM2}/neurons", params=asked).json()
    assert told == shown
    command = ["neurons", "--label", "entropy", "--sort", "rho_share", "--limit", "5", "--model", SMOLLM2, "--json"]
    said = CliRunner().invoke(main, command, env={"NULLSCOPE_DATA_DIR": str(tmp_path)})
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["rows"] == told["rows"]
    assert "weights of smollm2-135m are not here" in said.stderr
    assert not (tmp_path / "packages").exists()


def test_the_spectrum_is_there_before_the_weights(client: TestClient) -> None:
    found = client.get(f"/api/v1/models/{SMOLLM2}/spectrum").json()
    assert (found["knee"], found["k"], len(found["singular_values"]), len(found["rho_quantiles"])) == (574, 1, 576, 30)
    for asked in ({"k": "40"}, {"vocab_centred": "false"}):
        refused = client.get(f"/api/v1/models/{SMOLLM2}/spectrum", params=asked)
        assert refused.json()["error"]["code"] == "needs_weights"
    assert client.get(f"/api/v1/models/{SMOLLM2}/nullspace").status_code == 404, "nothing ships of the heads"


@pytest.mark.real
@pytest.mark.slow
def test_the_shipped_atlas_is_what_the_weights_say(smollm2: Model) -> None:
    """The spectrum, the controls and three layers, computed anew: the same to float32's digits of their size."""
    home = PACKAGED[SMOLLM2].beside
    assert home is not None
    found = shipped_atlas.read(home / shipped_atlas.FILE)
    unigram = frequency.load_counts(home / "unigrams.npy", d_vocab=smollm2.d_vocab)
    assert found.of(smollm2, unigram.sha256)
    assert list(found.token_texts) == smollm2.token_texts(range(smollm2.d_vocab))
    *_, last = atlas.compute(smollm2, unigram, layers=(0, 15, 29))
    made = last.result
    assert made is not None
    scale = float(made.spectrum.S[0])
    within(found.atlas.spectrum.S, made.spectrum.S, 1e-4 * scale)
    for name in ("norm", "norm_in", "logit_var", "v_score", "kurtosis", "skew", "frequency_alignment", "cos_in_out"):
        stored, computed = getattr(found.atlas.table, name)[[0, 15, 29]], getattr(made.table, name)
        within(stored, computed, 1e-4 * float(computed.abs().max()))
    within(found.atlas.controls.logit_var, made.controls.logit_var, 1e-4 * float(made.controls.logit_var.max()))
    for k, stored in found.rho.items():
        within(stored[29], nullspace.rho(smollm2.write_rows(29), made.spectrum.basis(k)).cpu(), 1e-3)
