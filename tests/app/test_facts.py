"""What is said about a model before it is loaded agrees with the loaded one, and its memory estimate is not too low."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from analysis.model import load
from analysis.registry import folder_spec
from analysis.types import UnsupportedModelError
from app.core.residency import memory
from app.core.residency.facts import read_facts
from tests import tiny

NAMES = ("d_model", "n_layers", "n_heads", "d_mlp", "d_vocab", "n_ctx", "norm", "architecture")


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.POST_NORM])
def test_facts_agree_with_the_loaded_model(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    tiny.hf_model(name, dtype=torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    facts, model = read_facts(folder), load(folder_spec(folder))
    assert {key: getattr(facts, key) for key in NAMES} == {key: getattr(model, key) for key in NAMES}
    parameters = model._bridge.original_model.parameters()
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in parameters}  # ties and views once
    assert 4 * (facts.n_parameters + facts.n_copied) == sum(storages.values())
    held = sum(storages.values()) + 4 * (model.readout.W_U.numel() + model.readout.W_out.numel())
    assert facts.bytes_needed("float32") >= held
    assert facts.bytes_needed("bfloat16") < facts.bytes_needed("float32")


def test_a_folder_that_makes_no_sense_is_a_clear_error(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "n_layer"}))
    with pytest.raises(UnsupportedModelError, match="n_layer"):
        read_facts(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(UnsupportedModelError, match="not a whole safetensors file"):
        read_facts(folder)


def test_memory_that_is_measured_is_plausible() -> None:
    free, total = memory.measured("cpu")
    assert 0 < free <= total


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    monkeypatch.setattr(memory, "CGROUP_FILES", (limit,))
    assert memory.measured("cpu") == (1_000_000, 1_000_000)
    limit.write_text("max\n")
    assert memory.measured("cpu")[1] > 1_000_000


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")]
)
def test_bytes_for_people(n_bytes: float, text: str) -> None:
    assert memory.human(n_bytes) == text
