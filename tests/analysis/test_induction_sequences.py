"""Texts that repeat themselves: layout, seeds, corruption, limits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.induction.natural import GRAM, Passage, find
from analysis.induction.sequences import corrupt, longest_unit, natural_units, random_units, repeat
from analysis.types import InputError

BOS = 1


@given(
    length=st.integers(1, 9),
    copies=st.integers(2, 8),
    separator=st.lists(st.integers(3, 20), max_size=3),
    bos=st.sampled_from([None, BOS]),
)
def test_every_copy_is_the_unit_and_the_rest_is_bos_and_separator(length, copies, separator, bos):
    units = torch.arange(100, 100 + 2 * length).view(2, length)
    made = repeat(units, copies=copies, bos=bos, separator=separator)
    assert all(torch.equal(made.tokens[:, made.copy(index)], units) for index in range(copies))
    inside = {position for index in range(copies) for position in range(*made.copy(index).indices(10**6))}
    rest = [int(token) for position, token in enumerate(made.tokens[0]) if position not in inside]
    assert rest == ([] if bos is None else [bos]) + separator * (copies - 1)
    assert made.repeats == [p for p in sorted(inside) if p >= made.starts[1]]


def test_papers_set_has_199_tokens_and_a_shorter_context_a_shorter_unit():
    made = repeat(torch.arange(3, 102)[None], bos=BOS)
    assert made.tokens.shape == (1, 199)
    assert (made.copy(0), made.copy(1)) == (slice(1, 100), slice(100, 199))
    assert longest_unit(128, copies=2, separator=0, bos=True) == 63
    assert longest_unit(1024, copies=8, separator=2, bos=False) == (1024 - 14) // 8
    with pytest.raises(InputError, match="8 copies with a separator of 3 tokens leave 3"):
        longest_unit(48, copies=8, separator=3, bos=True)


def test_seeds_decide_alone():
    documents = [list(range(100)), list(range(200, 260))]
    one, same, other = (natural_units(documents, length=10, n_rows=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(row[0] % 10 == 0 for row in one.tolist())  # windows do not overlap
    assert natural_units(documents, length=30, n_rows=99, seed=0).shape == (5, 30)  # what the text gives
    with pytest.raises(InputError, match="No document has 101 tokens"):
        natural_units(documents, length=101, n_rows=1, seed=0)


def test_random_units_are_allowed_and_distinct_where_possible():
    units = random_units(torch.arange(50), excluded={0, 7}, length=48, n_rows=3, seed=0)
    assert all(sorted(row) == [index for index in range(50) if index not in (0, 7)] for row in units.tolist())
    longer = random_units(torch.arange(50), excluded={0, 7}, length=60, n_rows=3, seed=0)
    assert not {0, 7} & set(longer.flatten().tolist())


@given(count=st.integers(1, 6), seed=st.integers(0, 5))
def test_corruption_touches_that_many_tokens_of_the_second_copy(count, seed):
    made = repeat(torch.arange(3, 9).expand(4, 6).contiguous(), bos=BOS, copies=3)
    changed = corrupt(made, known=torch.arange(20), excluded={0, 1}, seed=seed, count=count)
    different = changed.tokens != made.tokens
    assert torch.equal(different, changed.changed)
    assert different[:, changed.copy(1)].sum(1).tolist() == [count] * 4
    assert different.sum() == 4 * count
    assert not {0, 1} & set(changed.tokens[different].tolist())


def test_corruption_at_named_tokens():
    made = repeat(torch.arange(3, 9)[None], bos=BOS)
    changed = corrupt(made, known=torch.arange(20), excluded=(), seed=0, offsets=[0, 5])
    assert changed.changed[0].nonzero().flatten().tolist() == [7, 12]
    with pytest.raises(InputError, match="6 tokens"):
        corrupt(made, known=torch.arange(20), excluded=(), seed=0, offsets=[6])


def test_natural_repeats_follow_the_rule():
    gram = [10, 11, 12, 13, 14, 15]
    good = [1, 2, *gram, 50, 3, *gram, 51, 4]
    assert list(find([good], excluded={1})) == [Passage(tuple(good), 2, 10)]
    refused = {
        "only once": [1, *gram, 50, 51, 52],
        "three times": [*gram, 50, *gram, 51, *gram, 52],
        "nothing between": [1, *gram, *gram, 51],
        "not distinct": [10, 11, 12, 13, 14, 14, 50, 10, 11, 12, 13, 14, 14, 51],
        "not allowed": [99, 11, 12, 13, 14, 15, 50, 99, 11, 12, 13, 14, 15, 51],
        "no successor": [1, *gram, 50, 3, *gram],
    }
    assert [name for name, row in refused.items() if list(find([row], excluded={99}))] == []
    longer = [*gram, 16, 50, *gram, 16, 51]
    (passage,) = find([longer], excluded=())
    assert passage.continued
    assert passage.first + GRAM == 6
