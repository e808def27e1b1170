"""What tests/tolerance.py takes for granted of sums and of the tiny models. Nothing here depends on how sums round."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests import tiny
from tests.tolerance import LOG_PROB, LOGIT, SENSITIVITY, of_sum

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
SHIFT = 1e-5
"""Large against the rounding of float64, small against everything else."""


@pytest.mark.parametrize("name", ALL)
def test_shifted_weights_move_no_tiny_model_further_than_said(name: str) -> None:
    model, ids = tiny.hf_model(name), torch.tensor([tiny.token_ids(20)])
    g = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        before = model(input_ids=ids).logits[0]
        for parameter in model.parameters():
            signs = 2 * torch.randint(0, 2, parameter.shape, generator=g) - 1
            parameter.mul_(1 + SHIFT * signs)
        after = model(input_ids=ids).logits[0].log_softmax(-1)
    assert before.abs().max() < LOGIT
    assert before.log_softmax(-1).min() > -LOG_PROB
    moved = (after - before.log_softmax(-1)).abs().max() / SHIFT
    assert 1 < moved < SENSITIVITY


def test_the_bound_holds_for_a_sum_term_by_term_and_is_no_wider_than_it_must_be() -> None:
    """One accumulator in float32, the worst way to sum, against the exact sum."""
    n = 100_000
    terms = np.random.default_rng(0).uniform(size=n).astype(np.float32)
    one_by_one = float(np.add.accumulate(terms)[-1])
    wrong, sizes = abs(one_by_one - math.fsum(terms.tolist())), float(np.abs(terms).sum())
    assert of_sum(1, torch.float32, sizes) < wrong < of_sum(n, torch.float32, sizes)
    assert of_sum(30, torch.float64, 2.0) == 60 * torch.finfo(torch.float64).eps
