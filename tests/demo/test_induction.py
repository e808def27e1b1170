"""The bundled model on repeated text is what models/demo/induction.json (and with it the model card) says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from analysis.model import hash_files
from analysis.registry import BUNDLED_FOLDER
from tests.demo.induction_found import FILE
from tests.demo.induction_found import found as compute

AGAIN = "The weights are others than those the figures were taken from: run `python -m tests.demo.induction_found`."


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    assert found["weights_sha256"] == hash_files(BUNDLED_FOLDER.glob("*.safetensors")), AGAIN
    return found


@pytest.fixture(scope="module")
def found(written: dict[str, Any]) -> dict[str, Any]:
    return compute()


def test_the_second_copy_is_read_with_more_confidence(written: dict[str, Any], found: dict[str, Any]) -> None:
    for name in ("entropy", "loss"):
        fall = written[name]["first"] - written[name]["second"]
        assert fall > 0
        assert found[name]["first"] - found[name]["second"] == pytest.approx(fall, rel=0.02, abs=0.005)


def test_ranking_by_weighted_difference(written: dict[str, Any], found: dict[str, Any]) -> None:
    assert [row["neuron"] for row in found["neurons"]] == [row["neuron"] for row in written["neurons"]]
    for row, again in zip(written["neurons"], found["neurons"], strict=True):
        assert again["weighted"] == pytest.approx(row["weighted"], rel=0.02)
        assert again["rho"] == pytest.approx(row["rho"], abs=0.01)


def test_clipping_its_top_neurons_against_random_ones(written: dict[str, Any], found: dict[str, Any]) -> None:
    for row, again in zip(written["clips"], found["clips"], strict=True):
        assert again["neurons"] == row["neurons"]
        for name in ("ratio", "ratio_frozen"):
            assert again[name] - 1 == pytest.approx(row[name] - 1, rel=0.05, abs=2e-4)
        assert again["loss_change"] == pytest.approx(row["loss_change"], rel=0.05, abs=2e-4)
        for end in ("lowest", "highest"):
            assert again["controls"][end] == pytest.approx(row["controls"][end], abs=1e-3)


def test_heads(written: dict[str, Any], found: dict[str, Any]) -> None:
    for row, again in zip(written["heads"], found["heads"], strict=True):
        assert again["score"] == pytest.approx(row["score"], abs=0.01)
