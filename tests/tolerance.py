"""How far rounding alone may put two computations of one number apart: from the number format and the size of the sum.

A sum of n terms rounds n times. In another order, in wider vector registers, with fused multiply-adds or on more
threads it is another number, and each lies within n u Σ|terms| of the exact sum, u being half the format's epsilon
(Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), and, where the roundings are independent, within
λ √n u Σ|terms| but for a probability of 2 exp(-λ²/2) (Higham and Mary 2019, SIAM J. Sci. Comput. 41, A2815). Two
computations differ by no more than twice that: `of_sum`. No bound is read off what some machine printed.

What a test requires for another reason (an accuracy contract, a published number, the size of an effect) is a number
beside the claim; those that several tests share are `identity` and `EFFECT`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.model import Model
from tests import tiny

LAMBDA = 6.0
"""A difference outside `of_sum` has a probability of 3e-8 for a long sum, and cannot be for one below 36 terms."""

LOGIT, LOG_PROB = 4.0, 9.0
"""No logit of a tiny model is larger than the one, no log-probability lower than minus the other."""

SENSITIVITY = 32.0
"""Nats by which a tiny model's log-probabilities move at most for every unit by which all its weights are off,
relatively and at random. Rounding in a forward pass is such a shift of the weights (backward error analysis)."""

FLOAT32_ROUNDINGS = 8
"""An RMS norm casts, squares, averages, adds, takes a root, divides, scales and casts back; a rotary angle below 16
radians is off by 8 eps."""

EFFECT = 2e-5
"""The accuracy contract of effects in float32, nats (tests/analysis/test_kernel_accuracy.py)."""


IDENTITY = {torch.float64: 1e-9, torch.float32: 1e-4}
"""METHODS section 1: what the closed form's log-probabilities may differ by from the model's own, nats."""


def identity(model: Model) -> float:
    """`IDENTITY`, and 1e-6 where transformers computes the last norm in float32 in a float64 model."""
    return 1e-6 if model.norm == "RMS" and model.dtype == torch.float64 else IDENTITY[model.dtype]


def of_sum(n: float, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> float:
    """The largest difference of two computations of a sum of ``n`` terms whose sizes add up to ``scale``."""
    return min(n, LAMBDA * n**0.5) * torch.finfo(dtype).eps * scale


def of_logits(dtype: torch.dtype = torch.float64) -> float:
    """Between two computations of a tiny model's logits from one residual stream: sums over d_model."""
    return of_sum(tiny.D_MODEL, dtype, LOGIT)


def of_metrics(dtype: torch.dtype = torch.float64) -> float:
    """Nats between two computations of log-probabilities, entropy or loss from one residual stream of a tiny model:
    beside the logits, the normaliser sums probabilities over the vocabulary and the entropy p z."""
    return of_logits(dtype) + of_sum(tiny.D_VOCAB, dtype, 1 + LOGIT)


def of_pass(name: str = "gpt2", dtype: torch.dtype = torch.float64) -> float:
    """Nats between the metrics of two forward passes of a tiny model: in other batches, by other implementations. The
    longest sum inside runs over the positions, and what is not in `tiny.EXACT` goes through float32."""
    inside = 0.0 if name in tiny.EXACT else of_sum(FLOAT32_ROUNDINGS, torch.float32, SENSITIVITY)
    return of_sum(tiny.N_CTX, dtype, SENSITIVITY) + of_metrics(dtype) + inside


def close(
    got: Tensor,
    expected: Tensor,
    n: float,
    *,
    scale: float | None = None,
    dtype: torch.dtype | None = None,
    equal_nan: bool = False,
) -> None:
    """AssertionError unless ``got`` and ``expected`` are two computations of the same sums of ``n`` terms.

    scale: what the sizes of a sum's terms add up to; without it, the largest of the numbers, for sums in which nothing
    cancels. dtype: what the sums are held in; without it, the coarser one of the two.
    """
    got, expected = got.detach(), expected.detach()
    if dtype is None:
        dtype = max(got.dtype, expected.dtype, key=lambda one: torch.finfo(one).eps)
    if scale is None:
        scale = float(expected[expected.isfinite()].abs().max())
    within(got, expected, of_sum(n, dtype, scale), equal_nan=equal_nan)


def within(got: Tensor, expected: Tensor, bound: float, *, equal_nan: bool = False) -> None:
    """AssertionError unless the two differ by at most ``bound`` everywhere."""
    torch.testing.assert_close(got.double(), expected.double(), atol=bound, rtol=0, equal_nan=equal_nan)


def near(expected: Any, n: float, *, scale: float | None = None, dtype: torch.dtype = torch.float64) -> Any:
    """What `close` does for tensors, for a number or a list of them: ``got == near(expected, n)``. Without a scale each
    number has its own."""
    if scale is None:
        return pytest.approx(expected, rel=of_sum(n, dtype), abs=0)
    return pytest.approx(expected, rel=0, abs=of_sum(n, dtype, scale))
