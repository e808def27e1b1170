"""A caption claims a sign only where its interval leaves none open, and shows one neuron where it was not chosen."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy import ndarray

from analysis.figures import MAKERS, figure, said
from analysis.figures.data import Ground
from analysis.sets import Sets
from analysis.sweep import Result
from analysis.sweep.measures import CLEAN, SAMPLED
from analysis.sweep.result import Halves
from analysis.types import NeuronId

TOKENS, ROWS = 200, 40
N = 3


def ground(seed: int, *, related: float, top: int = 6, k: int = 2, strong: int = 2, asked: str | None = None) -> Ground:
    """A sweep of three neurons, of which the first ``strong`` stand out. related: how far entropy follows KL, and the
    change of the loss the loss; 0: not at all."""
    random = np.random.default_rng(seed)
    effect = np.array([0.5 if place < strong else 0.0 for place in range(N)])
    table = {
        f"{half}total.{name}": effect for half in ("choosing.", "showing.") for name in ("abs_loss", "abs_entropy")
    }
    table |= {f"{half}direct.abs_loss": 0.1 * effect for half in ("choosing.", "showing.")}
    table |= {"baseline": np.zeros(N)}
    clean = random.normal(size=(len(CLEAN), TOKENS))
    clean[CLEAN.index("entropy")] += related * clean[CLEAN.index("kl_unigram")]
    sample = random.normal(size=(len(SAMPLED), TOKENS, N))
    sample[SAMPLED.index("total.loss")] += related * clean[CLEAN.index("loss")][:, None]
    nothing = np.zeros((0, N))
    at = np.stack([np.arange(TOKENS) % ROWS, np.arange(TOKENS) // ROWS], 1)
    result = Result(
        tuple(NeuronId(1, place) for place in range(N)), ("total", "direct"), table, {}, ROWS, 1000, nothing, nothing,
        nothing, nothing, sample, clean, at, sample_showing=at[:, 0] % 2 == 1,
        halves=Halves("documents", (20, 20), (20, 20)),
    )  # fmt: skip
    weights = {
        "norm": np.ones(N),
        "logit_var": np.array([1.0, 2.0, np.nan]),
        "rho": np.full(N, 0.9),
        "frequency_alignment": np.zeros(N),
    }
    return Ground(
        sets=Sets(result, weights, 0.5, 0.5), k=k, top=top, asked=asked, singular=np.arange(8, 0, -1.0),
        cosines=lambda place: np.full(8, 8**-0.5), direction=lambda place: np.full(8, 8**-0.5),
        controls=lambda places, path: None,
    )  # fmt: skip


def test_nothing_is_claimed_of_noise() -> None:
    """Of forty draws without any relation at most a few are told as one: 5 % are meant to be."""
    told = [figure(ground(seed, related=0.0), "3c").caption for seed in range(40)]
    assert sum("no clear relation" in each for each in told) >= 34
    told = [figure(ground(seed, related=0.0), "4c").caption for seed in range(40)]
    assert sum("is not clear" in each for each in told) >= 34


@pytest.mark.parametrize(
    ("related", "name", "words"),
    [
        (2.0, "3c", "rise together"),
        (-2.0, "3c", "go against each other"),
        (2.0, "4c", "it hedges"),
        (-2.0, "4c", "it sharpens"),
    ],
)
def test_what_is_there_is_said(related: float, name: str, words: str) -> None:
    caption = figure(ground(1, related=related), name).caption
    assert words in caption
    assert "95 % interval" in caption


@pytest.mark.parametrize("name", ["4a", "4b", "4c"])
def test_the_one_neuron_is_shown_where_it_was_not_chosen(name: str) -> None:
    on = ground(2, related=1.0)
    shown = figure(on, name)
    rows = {int(point.label.split(",")[0].removeprefix("row ")) for point in shown.rows}
    assert rows == set(range(1, ROWS, 2))
    assert "chosen on 20 documents and shown on the other 20" in shown.caption
    asked = figure(ground(2, related=1.0, asked="1.2"), name)
    assert len(asked.rows) == TOKENS
    assert "chosen on" not in asked.caption


def test_a_numbers_interval_is_over_rows() -> None:
    """Tokens of one row that are all alike are one, not many."""
    rows = np.arange(TOKENS) % 10
    once = np.random.default_rng(0).normal(size=10)
    found = said.mean(once[rows], rows)
    assert found is not None
    spread = 2 * 1.96 * once.std() / 10**0.5
    assert 0.7 * spread < found.high - found.low < 1.4 * spread
    alone = said.mean(once, np.zeros(10, dtype=int))
    assert alone is not None
    assert alone.sign == 0
    assert "too few rows" in alone.told("g")


@pytest.mark.parametrize(
    ("strong", "said_of", "k", "last"),
    [
        (0, "None found", 2, ""),
        (1, "Drawn are these: the neuron with", 1, "In the last direction lies"),
        (2, "Drawn are these: the 2 neurons with", 2, "In the last 2 directions lie"),
        (3, "Drawn are these: the 3 neurons with", 2, "In the last 2 directions lie"),
    ],
)
def test_a_set_smaller_than_what_is_drawn_of_it_is_not_counted_wrongly(
    strong: int, said_of: str, k: int, last: str
) -> None:
    on = ground(3, related=0.0, strong=strong, k=k)
    assert said_of in (caption := figure(on, "2d").caption)
    assert last in caption
    assert "the first three" not in caption


def test_a_change_that_is_not_known_is_not_told() -> None:
    on = ground(4, related=1.0)
    unknown: ndarray = np.full_like(on.result.sample, np.nan)
    without = replace(on, sets=replace(on.sets, result=replace(on.result, sample=unknown)))
    assert "Ablating it" not in figure(without, "4c").caption
    assert "rank correlation" not in figure(without, "4a").caption


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_no_caption_prints_what_is_not_known(name: str) -> None:
    """A model without token counts whose unembedding has more zeros than other singular values."""
    on = ground(5, related=1.0)
    sets = replace(on.sets, chance_alignment=float("nan"))
    poor = replace(on, sets=sets, singular=np.array([2.0, 1.0, *[0.0] * 6]), k=6)
    made = figure(poor, name)
    said_there = " ".join([made.title, made.caption, *made.notes])
    assert not re.search(r"\bnan\b|\binf\b", said_there)
    if name in ("3a", "3b", "8"):
        assert "None found" not in said_there
    if name == "6":
        assert "dropout" not in made.title
