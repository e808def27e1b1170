"""What ships of a model is of the weights that it is shipped for, and says so by their hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from analysis import frequency, reference, shipped_atlas
from analysis.folder import hash_files, weight_files
from analysis.registry import BUNDLED_FOLDER, PACKAGED
from analysis.store import RunFolder, read_json
from app.core.residency.means import BESIDE_MODEL

HASH = "weights_sha256"


def _named(value: object) -> set[str]:
    """Every weights hash in a JSON value."""
    if isinstance(value, list):
        return set().union(*map(_named, value))
    if not isinstance(value, dict):
        return set()
    here = {value[HASH]} if isinstance(value.get(HASH), str) else set()
    return here.union(*map(_named, value.values()))


def test_everything_beside_the_bundled_model_is_of_its_weights() -> None:
    """Its means above all: of other weights they are taken anew at every first start."""
    weights = hash_files(weight_files(BUNDLED_FOLDER, "demo"))
    found: dict[str, set[str]] = {
        file.name: _named(json.loads(file.read_text("utf-8"))) for file in BUNDLED_FOLDER.rglob("*.json")
    }
    with safe_open(BUNDLED_FOLDER / "reference_means.safetensors", framework="pt") as means:
        found["reference_means.safetensors"] = {means.metadata()[HASH]}
    naming = {name: hashes for name, hashes in found.items() if hashes}
    assert {"reference_means.safetensors", "manifest.json", "story.json", "induction_page.json"} <= naming.keys()
    assert naming == {name: {weights} for name in naming}


def test_a_file_beside_the_weights_is_no_part_of_their_hash(tmp_path: Path) -> None:
    """Else means that name the hash could never be stored beside what they are of."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = hash_files(weight_files(tmp_path, "one"))
    (tmp_path / "reference_means.safetensors").write_bytes(b"means")
    assert hash_files(weight_files(tmp_path, "one")) == before


@pytest.mark.parametrize("key", [key for key, spec in PACKAGED.items() if spec.beside])
def test_what_ships_without_its_weights_is_of_one_model(key: str) -> None:
    home = PACKAGED[key].beside
    assert home is not None
    atlas = shipped_atlas.read(home / shipped_atlas.FILE)
    assert atlas.facts[HASH] == atlas.atlas.weights_sha256
    counts_file = frequency.load_counts(home / "unigrams.npy", d_vocab=atlas.facts["d_vocab"])
    assert counts_file.sha256 == atlas.facts["counts_sha256"]
    if (home / "sweep").is_dir():
        folder = RunFolder(home / "sweep")
        manifest = folder.manifest()
        assert folder.result() is not None, "the sweep has finished, and its files are whole"
        assert (manifest[HASH], manifest["unigram_sha256"]) == (atlas.facts[HASH], counts_file.sha256)
    assert read_json(home / "unigrams.json")["vocabulary_sha256"]
    assert not list(home.rglob("*.gguf"))
    means = reference.load(home / BESIDE_MODEL)
    table = atlas.atlas.table
    assert (means.weights_sha256, means.means.shape) == (atlas.facts[HASH], (table.n_layers, table.d_mlp))
    ours = {"arrays.safetensors", BESIDE_MODEL}
    assert not [file for file in home.rglob("*.safetensors") if file.name not in ours], "no weights"
