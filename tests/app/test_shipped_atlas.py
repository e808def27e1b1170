"""The atlas of a listed model before its weights are here: what ships of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from analysis import atlas, nullspace, shipped_atlas
from analysis.model import Model
from analysis.types import InputError
from tests.tolerance import within

SMOLLM2 = "smollm2-135m"


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
