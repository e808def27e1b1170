"""The notebooks of written texts replay them from the seed with transformers alone and compare the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from tests import tiny
from tests.app.test_exports import said_by

URL = "/api/v1/models/tiny-gpt2"
IDS = tiny.token_ids(5)
SAME = ["replayed from the seed: the same text, token for token", "the numbers agree"]
DO = [
    {"neuron": "1.3", "mode": "scale", "value": 3.0},
    {"neuron": "0.5", "mode": "mean", "positions": {"start": 3, "stop": 9}},
    {"neuron": "0.7", "mode": "clip", "max": 0.1, "positions": [2, 6]},
]
COMMON = {"token_ids": IDS, "max_new_tokens": 6, "stop_at_eos": False, "temperature": 1.2, "top_k": 50, "top_p": 0.95}


def book(client: TestClient, question: str, url: str = URL, **body: Any) -> str:
    answer = client.post(f"{url}/{question}", json=COMMON | body, params={"store": True}).json()
    found = client.get(answer["permalink"] + "/notebook.ipynb", headers={"accept": "application/json"})
    assert found.status_code == 200, found.text
    return found.text


@pytest.mark.parametrize("where", [{}, {"apply_to": "new", "interventions": DO[:1]}, {"temperature": 0}])
def test_a_text_is_written_again(client: TestClient, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    text = book(client, "generate", **{"seed": 7, "interventions": DO, **where})
    cells = "".join(cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    assert "transformer_lens" not in cells
    assert not re.search(r"(from|import) (app|analysis|nullscope)", cells)
    assert said_by(text, monkeypatch) == SAME


def test_the_texts_of_a_dial_and_of_its_twins_are_written_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = ["1.3,1.4:scale=3", "0.5:value=1"]
    text = book(client, "dial", dials=dials, seeds=2, seed=4, max_new_tokens=5)
    assert said_by(text, monkeypatch) == SAME


@pytest.mark.parametrize("name", ["neox", "llama", "opt"])
def test_it_finds_the_neurons_of_other_architectures(
    name: str, make_client: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / f"tiny-{name}"
    tiny.hf_model(name, dtype=torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    client = make_client(models=(str(folder),))
    text = book(client, "generate", f"/api/v1/models/tiny-{name}", seed=7, interventions=[DO[0], DO[2]])
    assert said_by(text, monkeypatch) == SAME


def test_another_seed_and_another_number_are_noticed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    text = book(client, "generate", seed=7)
    other = re.sub(r"(TEMPERATURE, SEED = [\d.]+, )7", r"\g<1>8", text)
    assert other != text
    assert said_by(other, monkeypatch)[0].startswith("chooses otherwise at")
    wrong = re.sub(r"'entropy': [\d.]+", "'entropy': 9.5", text, count=1)
    assert wrong != text
    with pytest.raises(AssertionError):
        said_by(wrong, monkeypatch)


def test_without_a_head_it_says_that_there_is_none(client: TestClient) -> None:
    body = COMMON | {"interventions": [{"head": "0.1", "mode": "zero"}]}
    answer = client.post(f"{URL}/generate", json=body, params={"store": True}).json()
    refused = client.get(answer["permalink"] + "/notebook.ipynb", headers={"accept": "application/json"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_notebook")
    assert refused.json()["error"]["hint"]
