"""Gemma 3 270M as it comes in its packages: a norm behind the MLP, 262,144 tokens. Nothing of it ships (its terms)."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import sinks
from analysis.model import Model, load
from analysis.registry import folder_spec
from tests.real import TEXT, assert_effects_are_plain, entropy_label

NEURONS = [1650, 1026, 0, 1, 7, 100, 511, 999, 1500, 2047]


@pytest.fixture(scope="module")
def model(gemma3_folder: Path) -> Model:
    return load(folder_spec(gemma3_folder), folder=gemma3_folder)


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
def test_effects_are_those_of_plain_transformers_in_float64(model: Model, gemma3_folder: Path) -> None:
    """Through the norm behind the MLP, ten neurons at three positions."""
    assert_effects_are_plain(model, gemma3_folder, NEURONS, (3, 12, len(model.encode(TEXT)) - 2))


@pytest.mark.real
@pytest.mark.slow
def test_the_weights_suggest_its_confidence_neuron(model: Model) -> None:
    k, share, label = entropy_label(model)
    assert (k, share) == (1, 6)
    entropy = label.suggested.nonzero()[:, 0].tolist()
    assert 1650 in entropy
    assert len(entropy) <= 8
