"""SmolLM2's model card is true: it is made from figures.json, and what ships and its weights give those figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from analysis.model import Model
from analysis.registry import PACKAGED
from training import second_home_card as cards

HOME = PACKAGED["smollm2-135m"].beside
ASKED_AGAIN = (830, 511)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    assert HOME is not None
    found: dict[str, Any] = json.loads((HOME / cards.FIGURES).read_text(encoding="utf-8"))
    return found


def same(found: Any, stated: Any, *, rel: float, abs: float, at: str = "") -> None:
    """Numbers within tolerances, all else equal."""
    if isinstance(stated, dict):
        assert found.keys() == stated.keys(), at
        for name in stated:
            same(found[name], stated[name], rel=rel, abs=abs, at=f"{at}.{name}")
    else:
        number = isinstance(stated, float)
        assert found == (pytest.approx(stated, rel=rel, abs=abs) if number else stated), at


def test_the_card_says_what_the_figures_say(figures: dict[str, Any]) -> None:
    assert HOME is not None
    assert (HOME / cards.CARD).read_text(encoding="utf-8") == cards.card(figures)


def test_the_figures_of_weights_and_sweep_are_those_that_ship(figures: dict[str, Any]) -> None:
    assert HOME is not None
    same(cards.by_weights(HOME), figures["weights"], rel=1e-4, abs=1e-6)
    swept = cards.by_sweep(HOME)
    same(swept, figures["sweep"], rel=1e-6, abs=1e-9)
    assert {"29.830", "29.1022"} == set(swept["labelled"])
    moved = {name: row["total.abs_entropy"] for name, row in swept["neurons"].items()}
    assert max(moved, key=moved.__getitem__) == "29.511"
    assert swept["drawn"]["largest_abs_entropy"] < moved["29.511"]


@pytest.mark.real
@pytest.mark.slow
def test_the_ablation_is_what_the_weights_give(smollm2: Model, figures: dict[str, Any]) -> None:
    """An entropy neuron and the loud one, each beside its twenty random directions: the same figures and ranks."""
    assert HOME is not None
    found = cards.by_ablation(smollm2, HOME, ASKED_AGAIN)
    stated = figures["ablation"]["neurons"]
    for name, row in found["neurons"].items():
        for column in ("abs_entropy", "ln_mediated"):
            for key, value in row[column].items():
                assert value == pytest.approx(stated[name][column][key], rel=1e-3, abs=1e-3), (name, column, key)
