"""The Triton kernel against the eager reference: on a CUDA device, or anywhere in Triton's interpreter.

Without a device: ``TRITON_INTERPRET=1 pytest tests/gpu`` where the triton package is installed.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from analysis.effects import Engine, effects
from analysis.kernels import Coefficients, Tile
from analysis.kernels.eager import Eager
from tests.analysis.test_kernel_accuracy import check_contract, random_readout

pytest.importorskip("triton", reason="the triton package is not installed")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not (torch.cuda.is_available() or INTERPRETED):
    pytest.skip("no CUDA device, and TRITON_INTERPRET is not set", allow_module_level=True)

from analysis.kernels.fused import Triton  # noqa: E402  triton decides at import whether it interprets

DEVICE = "cpu" if INTERPRETED else "cuda"
# The interpreter is numpy, which warns of the overflows that a device passes over (and repair mends).
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:overflow"),
    pytest.mark.filterwarnings("ignore:invalid"),
]


@pytest.mark.parametrize("n_bases", [1, 2])
@pytest.mark.parametrize("cap", [None, 30.0])
def test_triton_equals_eager(cap, n_bases):
    g = torch.Generator().manual_seed(0)
    pos, n, vocab = 2, 19, 1000

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(DEVICE)

    pre = 3 * normal(pos, vocab)
    log_partition = (pre if cap is None else cap * torch.tanh(pre / cap)).logsumexp(-1)
    bases, marks = 0.01 * normal(n_bases, pos, n), normal(2, pos, n) - 5
    tile = Tile(
        base=pre - log_partition[:, None] if cap is None else pre,
        bases=normal(n_bases, pos, vocab),
        rows=normal(n, vocab),
        conditions=(
            Coefficients(bases, 0.1 * normal(pos, n), normal(pos, n), marks),
            Coefficients(row=0.1 * normal(pos, n)),
            Coefficients(bases=bases),
            Coefficients(row=300 * normal(pos, n), thresholds=marks[:1]),
        ),
        direction=0.1 * normal(vocab),
        cap=cap,
        shift=None if cap is None else log_partition,
    )
    for got, expected in zip(Triton()(tile), Eager()(tile), strict=True):
        within(got.log_partition, expected.log_partition, EFFECT)
        within(got.mean, expected.mean, EFFECT)
        if expected.above is not None:
            assert torch.equal(got.above, expected.above)


@pytest.mark.parametrize(("vocab", "scale"), [(2, 1.0), (3000, 1e-3), (3000, 10.0), (3000, 1e3)])
def test_triton_keeps_the_accuracy_contract(vocab, scale):
    if not INTERPRETED:
        torch.set_default_device("cuda")
    try:
        check_contract(Triton(), 5, vocab, scale)
    finally:
        torch.set_default_device("cpu")


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device")
def test_a_whole_table_on_cuda_equals_the_processor():
    readout, last = random_readout(0, 5000, 3.0, layer_norm=True, cap=None)
    here = effects(Engine.build(readout, backend="eager"), last, [0, 7], 0, baseline=torch.zeros(8))
    moved = replace(readout, **{name: getattr(readout, name).cuda() for name in ("W_U", "b_U", "W_out")})
    there_last = type(last)(last.resid.cuda(), last.activations.cuda())
    there = effects(Engine.build(moved, backend="triton"), there_last, [0, 7], 0, baseline=torch.zeros(8).cuda())
    within(there.d_entropy.total.cpu(), here.d_entropy.total, EFFECT)
