"""A model with directions that its unembedding does not use: said, drawn, and parted by no k, at every door."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from analysis.nullspace import Spectrum
from app.atlas import charts_spectrum, view
from app.compare import charts as compare_charts
from app.compare.view import SidesView
from app.core.null_space import null_space
from app.core.settings import Settings
from app.main import create_app
from tests import tiny
from tests.app.conftest import with_checkpoint

UNUSED = 6
"""Dimensions of the residual stream that no token's unembedding has. Centring over d_model leaves one direction less of
them, and adds the all-ones vector."""

API = "/api/v1/models/unused"


@pytest.fixture(scope="module")
def client(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    copy = tmp_path_factory.mktemp("unused")
    changed = shutil.copytree(model_folder, copy / "before")
    weights = load_file(changed / "model.safetensors")
    weights["transformer.wte.weight"][:, -UNUSED:] = 0
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    folder = with_checkpoint(changed, copy / "unused")
    (folder / "checkpoints" / "1200.safetensors").rename(folder / "checkpoints" / "0.safetensors")
    settings = Settings(data_dir=copy / "data", models=(str(folder),), device="cpu", effects_backend="eager")
    with TestClient(create_app(settings)) as opened:
        opened.app.state.host.entries["unused"].settled.wait()  # type: ignore[attr-defined]
        yield opened


def test_the_exact_null_space_is_said_wherever_k_stands(client: TestClient) -> None:
    said = client.get(f"{API}/spectrum").json()["null_space"]
    assert (said["exact"], said["built_in"]) == (UNUSED, UNUSED - 1)
    assert f"{UNUSED} of {tiny.D_MODEL} directions are exactly null" in said["says"]
    asked = {"token_ids": [1, 5, 9]}
    answers = [
        client.get(f"{API}/neurons").json(),
        client.get(f"{API}/neurons/1.7").json(),
        client.get(f"{API}/nullspace").json(),
        client.post(f"{API}/ledger", json=asked).json(),
        *client.get("/api/v1/compare").json()["sides"],
    ]
    for answer in answers:
        assert answer["null_space"]["says"].startswith(said["says"][:30])
        assert answer["null_space"]["exact"] == UNUSED
        assert answer["k"] >= UNUSED
    for path in ("/nullspace", "/atlas", "/compare", "/m/unused/n/1.7"):
        assert f"{UNUSED} of {tiny.D_MODEL} directions are exactly null" in client.get(path).text


@pytest.mark.parametrize(("d_model", "warned"), [(576, True), (40, False)])
def test_a_null_space_of_one_singular_value_comes_with_a_warning(d_model: int, warned: bool) -> None:
    """As in SmolLM2 and Gemma: only the last one falls. Where 1 % of d_model is 1, there is no other k to look at."""
    values = torch.linspace(20, 15, d_model, dtype=torch.float64)
    values[-1] = 7
    says = null_space(Spectrum(torch.eye(d_model, dtype=torch.float64), values, d_model - 2, trivial=False)).says
    assert ("k = 1 is a single singular value" in says) is warned
    assert ("k = 6 (1% of d_model)" in says) is warned


@pytest.mark.parametrize(
    "path", ["spectrum", "neurons", "neurons/1.7", "nullspace", "/nullspace", "/atlas", "/m/unused/n/1.7", "/compare"]
)
def test_no_door_takes_a_k_that_parts_the_exact_null_space(client: TestClient, path: str) -> None:
    address = path if path.startswith("/") else f"{API}/{path}"
    assert client.get(address, params={"k": UNUSED}).status_code == 200
    refused = client.get(address, params={"k": UNUSED - 1, "format": "json"} if address == path else {"k": UNUSED - 1})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "k_parts_equal_values"
    assert refused.json()["error"]["hint"] == f"Choose k = {UNUSED} or more."


def test_the_slider_begins_at_the_exact_null_space(client: TestClient) -> None:
    assert re.search(rf'<input type="range" id="k" name="k" min="{UNUSED}" max="24"', client.get("/nullspace").text)


def test_zeros_are_drawn_on_either_axis(client: TestClient) -> None:
    for log in (True, False):
        shown = view.NullspaceView(**client.get("/nullspace", params={"log": log, "format": "json"}).json())
        for tail in (True, False):
            line, rings = charts_spectrum.singular_values(shown, tail=tail).data
            assert list(rings.x) == list(range(tiny.D_MODEL - UNUSED, tiny.D_MODEL))
            smallest = np.nanmin(np.array(line.y)[: tiny.D_MODEL - UNUSED])
            assert set(rings.y) == {smallest / 3 if log else 0}
    both = SidesView(**client.get("/compare", params={"format": "json"}).json())
    assert [len(trace.x) for trace in compare_charts.spectra(both).data] == 2 * [UNUSED, tiny.D_MODEL]


def test_what_was_there_before_training_is_said(client: TestClient) -> None:
    training = client.get("/compare", params={"format": "json"}).json()["training"]
    assert training["moments"][0]["tokens"] == 0
    assert training["untrained"].startswith(
        f"The untrained checkpoint has the same knee ({training['moments'][0]['knee']})"
    )
    assert f"{UNUSED - 1} of its directions are exactly null" in training["untrained"]
