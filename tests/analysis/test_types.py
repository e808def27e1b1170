"""Neurons, interventions and token filters refuse nonsense and say why."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.apply import intervened, kept_mask
from analysis.types import InputError, Intervention, NeuronId, Span, TokenFilter


@given(st.integers(0, 9999), st.integers(0, 9_999_999))
def test_a_neuron_reads_back_what_it_writes(layer, index):
    neuron = NeuronId(layer, index)
    assert NeuronId.parse(str(neuron)) == neuron


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "a.b", "1,2", "1.2e3", "٣.٤" * 9])
def test_what_is_no_neuron_is_refused(text):
    with pytest.raises(InputError) as error:
        NeuronId.parse(text)
    assert "layer.index" in str(error.value.hint)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "value"},
        {"mode": "scale"},
        {"mode": "clip"},
        {"mode": "clip", "min": 2.0, "max": 1.0},
        {"mode": "value", "value": math.nan},
        {"mode": "clip", "max": math.inf},
    ],
)
def test_incomplete_interventions_are_refused(fields):
    with pytest.raises(InputError):
        Intervention(NeuronId(0, 0), **fields)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.floats(-5, 5), st.floats(0, 5))
def test_clipping_moves_nothing_on_the_allowed_side(values, low, width):
    """Identity 9."""
    n = torch.tensor(values, dtype=torch.float64)
    clipped = intervened(Intervention(NeuronId(0, 0), "clip", min=low, max=low + width), n, None)
    inside = (n >= low) & (n <= low + width)
    assert torch.equal(clipped[inside], n[inside])
    assert ((clipped >= low) & (clipped <= low + width)).all()


def test_positions_are_half_open_and_checked():
    neuron = NeuronId(0, 0)
    assert list(Intervention(neuron, "zero", positions=Span(1, 3)).at(4)) == [1, 2]
    assert list(Intervention(neuron, "zero").at(3)) == [0, 1, 2]
    with pytest.raises(InputError):
        Intervention(neuron, "zero", positions=Span(1, 5)).at(4)


def test_the_papers_token_filter():
    """Positions 3..length-2, not special, not followed by special."""
    tokens = torch.tensor([[1, 5, 5, 5, 2, 5, 5, 5]])
    mask = kept_mask(TokenFilter(), tokens, {1, 2})
    assert mask.tolist() == [[False, False, False, False, False, True, True, False]]
    everything = kept_mask(TokenFilter(first=0, last=1, exclude_specials=False), tokens, {1, 2})
    assert everything.sum() == 7, "the last position is never kept: nothing follows it"


def test_names_and_errors_are_known_without_torch() -> None:
    code = "import analysis.types, analysis.registry, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
