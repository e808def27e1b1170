"""The bundled model on repeated text is what models/demo/induction.json (and with it the model card) says."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch

from analysis.folder import hash_files, weight_files
from analysis.registry import BUNDLED_FOLDER
from app.induction.example import finding
from tests.demo.induction_found import FILE
from tests.demo.induction_found import found as compute
from tests.tolerance import IDENTITY

AGAIN = (
    "The weights are others than those the figures were taken from: run `python -m tests.demo.induction_found` and "
    "`nullscope examples`."
)

RECORDED = 2 * IDENTITY[torch.float32]
"""Of a ratio or a difference of means over two runs in float32, now and when it was written down. Where the numbers are
read as percentages or ranked, wider."""


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    assert found["weights_sha256"] == hash_files(weight_files(BUNDLED_FOLDER, "demo")), AGAIN
    return found


@pytest.fixture(scope="module")
def found(written: dict[str, Any]) -> dict[str, Any]:
    return compute([row["neuron"] for row in written["neurons"]])


def test_the_second_copy_is_read_with_more_confidence(written: dict[str, Any], found: dict[str, Any]) -> None:
    for name in ("entropy", "loss"):
        fall = written[name]["first"] - written[name]["second"]
        assert fall > 0
        assert found[name]["first"] - found[name]["second"] == pytest.approx(fall, rel=0.02, abs=0.005)


def test_ranking_by_weighted_difference(written: dict[str, Any], found: dict[str, Any]) -> None:
    sizes = [abs(row["weighted"]) for row in found["neurons"]]
    for larger, smaller in pairwise([*sizes, abs(found["following"]["weighted"])]):
        assert smaller < 1.02 * larger  # two that are nearly equal may change places
    for row, again in zip(written["neurons"], found["neurons"], strict=True):
        assert again["weighted"] == pytest.approx(row["weighted"], rel=0.02)
        assert again["rho"] == pytest.approx(row["rho"], abs=0.01)


def test_clipping_its_top_neurons_against_random_ones(written: dict[str, Any], found: dict[str, Any]) -> None:
    for row, again in zip(written["clips"], found["clips"], strict=True):
        assert again["neurons"] == row["neurons"]
        for name in ("ratio", "ratio_frozen"):
            assert again[name] - 1 == pytest.approx(row[name] - 1, rel=0.05, abs=RECORDED)
        assert again["loss_change"] == pytest.approx(row["loss_change"], rel=0.05, abs=RECORDED)
        for end in ("lowest", "highest"):
            assert again["controls"][end] == pytest.approx(row["controls"][end], abs=5 * RECORDED)


def test_heads(written: dict[str, Any], found: dict[str, Any]) -> None:
    for row, again in zip(written["heads"], found["heads"], strict=True):
        assert again["score"] == pytest.approx(row["score"], abs=0.01)


def test_the_worked_example_says_what_was_found(written: dict[str, Any]) -> None:
    """Its page has the figures that are computed again above, and its sentence follows from them."""
    example = finding()
    assert example is not None
    view, clip = example.view, written["clips"][-1]
    assert view.provenance.weights_sha256 == written["weights_sha256"], AGAIN
    assert (view.repeat.rows, view.repeat.length, view.repeat.seed) == (written["rows"], written["length"], 0)
    for name in ("entropy", "loss", "ln_scale"):
        assert view.halves[name].model_dump() == pytest.approx(written[name], rel=1e-3)
    assert view.clip is not None
    assert [rule.neuron for rule in view.clip.rules] == clip["neurons"]
    assert [row.neuron for row in view.ranking[: len(clip["neurons"])]] == clip["neurons"]
    assert view.clip.repeat_ratio == pytest.approx(clip["ratio"], abs=RECORDED)
    assert view.clip.repeat_ratio_frozen == pytest.approx(clip["ratio_frozen"], abs=RECORDED)
    ratios = [row.ratio for row in view.clip.controls if row.ratio is not None]
    assert len(ratios) == clip["controls"]["n"] == 20
    assert (min(ratios), max(ratios)) == pytest.approx(
        (clip["controls"]["lowest"], clip["controls"]["highest"]), abs=5 * RECORDED
    )
    claim = example.ref.claim
    assert f"{view.clip.repeat_ratio:.3f}" in claim
    assert ", ".join(clip["neurons"]) in claim
    stands = next(each for each in view.clip.standings if each.quantity == "ratio")
    assert stands.rank == clip["controls"]["rank"]
    assert stands.p == pytest.approx(clip["controls"]["p"], abs=RECORDED)
    assert f"rank {stands.rank} of 21" in claim
    assert ("in this model" in claim) == (stands.p is not None and stands.p <= 0.05)
