"""The accuracy contract: differences of entropy and loss within max(2e-5, 4 eps max|z|) nats in float32, every backend.

The oracle is float64 arithmetic on the same weights, straight through the readout.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis.effects import Engine, effects, warm_up
from analysis.frequency import Unigram, freeze_frequency, unigram
from analysis.kernels import Backend, Coefficients, Tile, choose
from analysis.kernels.choice import has_compiler
from analysis.kernels.compiled import Compiled
from analysis.kernels.eager import Eager
from analysis.readout import Readout, fold
from analysis.trace import LastLayer
from analysis.types import InputError

EPS = torch.finfo(torch.float32).eps
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler for torch.compile")


def random_readout(
    seed: int, vocab: int, scale: float, *, layer_norm: bool, cap: float | None
) -> tuple[Readout, LastLayer]:
    """Logits of standard deviation ``scale``; eight neurons, two of which move the residual stream by a lot."""
    g = torch.Generator().manual_seed(seed)
    d, n = 12, 8
    strength = torch.tensor([0.01, 0.1, 0.1, 0.3, 0.3, 1.0, 3.0, 10.0])[:, None]
    readout = fold(
        W_U=scale / d**0.5 * torch.randn(d, vocab, generator=g),
        b_U=0.3 * scale * torch.randn(vocab, generator=g),
        W_out=strength * torch.randn(n, d, generator=g),
        gain=torch.ones(d),
        bias=None,
        eps=1e-5,
        layer_norm=layer_norm,
        n_tokens=vocab,
        soft_cap=cap,
    )
    return readout, LastLayer(3 * torch.randn(2, d, generator=g), torch.randn(2, n, generator=g))


def in_float64(readout: Readout, last: LastLayer) -> tuple[Readout, LastLayer]:
    wide = {name: getattr(readout, name).double() for name in ("W_U", "b_U", "W_out")}
    return replace(readout, **wide), LastLayer(last.resid.double(), last.activations.double())


def oracle(readout: Readout, last: LastLayer, target: int, counts: Unigram) -> tuple[dict[str, Tensor], float]:
    """Differences of entropy and loss under each condition, (2, n), zeroed at position 0; and the largest logit.

    Capped logits are rounded before the cap, so the largest is taken there.
    """
    readout, last = in_float64(readout, last)
    x = last.resid[:1]
    changed = readout.write(x.expand(8, -1), None, torch.diag(-last.activations[0]), readout.W_out)
    s, z = readout.scale(x), readout.logits(x)
    logits = {
        "total": readout.logits(changed),
        "direct": readout.logits(changed, scale=s.expand(8)),
        "ln_only": readout.logits(x.expand(8, -1), scale=readout.scale(changed)),
    }
    logits["frequency"] = freeze_frequency(z, logits["total"], counts.direction)
    before_cap = replace(readout, soft_cap=None)
    held = (before_cap.logits(x), before_cap.logits(changed), *logits.values())
    largest = max(float(value.abs().max()) for value in held)

    def entropy(log_p: Tensor) -> Tensor:
        return -(log_p.exp() * log_p).sum(-1)

    clean, result = z.log_softmax(-1), {}
    for name, value in logits.items():
        log_p = value.log_softmax(-1)
        result[name] = torch.stack([entropy(log_p) - entropy(clean), clean[:, target] - log_p[:, target]])
    return result, largest


def check_contract(
    backend: Backend, seed: int, vocab: int, scale: float, *, layer_norm: bool = True, cap: float | None = None
) -> None:
    readout, last = random_readout(seed, vocab, scale, layer_norm=layer_norm, cap=cap)
    counts = unigram(torch.arange(vocab) % 97, d_vocab=vocab, source="made up")
    target = seed % vocab
    engine = Engine.build(readout, unigram=counts, backend=backend)
    table = effects(engine, last, [0, target], 0, baseline=torch.zeros(8))
    expected, largest = oracle(readout, last, target, counts)
    allowed = max(2e-5, 4 * EPS * largest)
    for name, reference in expected.items():
        for parts, value in zip((table.d_entropy, table.d_loss), reference, strict=True):
            assert parts is not None
            frozen = parts.total - parts.frequency_mediated if parts.frequency_mediated is not None else None
            got = frozen if name == "frequency" else getattr(parts, name)
            assert (got - value).abs().max() <= allowed, (name, largest)


seeds, scales = st.integers(0, 10_000), st.floats(-3, 3).map(lambda power: 10.0**power)


@given(seed=seeds, vocab=st.integers(2, 3000), scale=scales, layer_norm=st.booleans())
@example(seed=0, vocab=130_000, scale=1e-3, layer_norm=True)
@example(seed=1, vocab=130_000, scale=3.0, layer_norm=False)
@example(seed=2, vocab=130_000, scale=1e3, layer_norm=True)
@settings(max_examples=60, deadline=None)
def test_eager_keeps_the_accuracy_contract(seed, vocab, scale, layer_norm):
    check_contract(Eager(), seed, vocab, scale, layer_norm=layer_norm)


@given(seed=seeds, vocab=st.integers(2, 500), scale=scales, cap=st.floats(1, 50))
@settings(max_examples=30, deadline=None)
def test_eager_keeps_it_with_capped_logits(seed, vocab, scale, cap):
    check_contract(Eager(), seed, vocab, scale, layer_norm=False, cap=cap)


@needs_compiler
@pytest.mark.parametrize("vocab", [2, 130_000])
def test_compiled_keeps_the_accuracy_contract(vocab):
    backend = Compiled(wait=True)

    @given(seed=seeds, scale=scales)
    @example(seed=0, scale=1e-3)
    @example(seed=1, scale=10.0)
    @example(seed=2, scale=1e3)
    @settings(max_examples=25 if vocab < 1000 else 4, deadline=None, database=None)
    def check(seed, scale):
        check_contract(backend, seed, vocab, scale)

    check()
    assert backend.failure is None
    assert any(function is not None for function in backend._functions.values())


def random_tile(n: int = 9, vocab: int = 5000, seed: int = 0) -> Tile:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    full = Coefficients(normal(1, 2, n) * 0.01, normal(2, n), normal(2, n), normal(2, 2, n) - 9)
    return Tile(
        base=(3 * normal(2, vocab)).log_softmax(-1),
        bases=10 * normal(1, 2, vocab),
        rows=normal(n, vocab),
        conditions=(full, Coefficients(row=normal(2, n))),
        direction=normal(vocab) / vocab**0.5,
    )


COMPILED = Compiled(wait=True)
"""Shared, so that both tests below compile once."""


@needs_compiler
def test_compiled_equals_eager_and_takes_any_number_of_rows():
    """One compilation serves every block size; too few rows are left to eager."""
    backend = COMPILED
    for n in (9, 40, 4, 3):
        tile = random_tile(n)
        for got, expected in zip(backend(tile), Eager()(tile), strict=True):
            torch.testing.assert_close(got.log_partition, expected.log_partition, atol=2e-6, rtol=0)
            torch.testing.assert_close(got.mean, expected.mean, atol=1e-5, rtol=0)
            assert (got.above is None) == (expected.above is None)
            if got.above is not None:
                assert torch.equal(got.above, expected.above)
    assert len(backend._functions) == 1


@pytest.mark.parametrize("backend", [Eager(), pytest.param(COMPILED, marks=needs_compiler)], ids=["eager", "compiled"])
def test_what_leaves_the_safe_range_is_done_again(backend):
    """A fixed shift overflows or underflows float32 here; the answer is still right."""
    tile = random_tile(n=6)
    for factor in (300.0, -300.0):
        row = torch.full((2, 6), factor)
        wild = replace(tile, conditions=(tile.conditions[0], Coefficients(row=row)))
        sums = backend(wild)[1]
        u = wild.base.double()[:, None] + factor * wild.rows.double()
        assert (u.amax(-1) > 500).all()
        torch.testing.assert_close(sums.log_partition.double(), u.logsumexp(-1), atol=1e-3, rtol=0)
        torch.testing.assert_close(sums.mean.double(), (u.softmax(-1) * u).sum(-1), atol=1e-3, rtol=0)


class Slow(Compiled):
    """A compiler that takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on, self.done = threading.Event(), threading.Event()

    def _compile(self, form, sample):
        self.go_on.wait(60)
        super()._compile(form, sample)
        self.done.set()


@needs_compiler
def test_nobody_waits_for_the_compiler():
    """Eager answers until the function is there, and it is compiled once, by the warm-up."""
    readout, last = random_readout(0, 2, 1.0, layer_norm=True, cap=None)  # as above: found in the compiler's cache
    backend = Slow()
    engine = Engine.build(readout, unigram=unigram(torch.arange(2), d_vocab=2, source="made up"), backend=backend)
    warm_up(engine)
    before = effects(engine, last, [0, 1], 0, baseline=torch.zeros(8))
    assert list(backend._functions.values()) == [None]
    assert backend.compiling
    backend.go_on.set()
    assert backend.done.wait(120)
    assert backend.failure is None
    assert not backend.compiling
    after = effects(engine, last, [0, 1], 0, baseline=torch.zeros(8))
    assert len(backend._functions) == 1, "the warm-up compiled for another form than the table's"
    torch.testing.assert_close(after.d_entropy.total, before.d_entropy.total, atol=2e-6, rtol=0)


def test_a_compiler_that_fails_leaves_eager(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no such header\nand more")

    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: broken)
    backend, tile = Compiled(wait=True), random_tile()
    assert torch.equal(backend(tile)[0].mean, Eager()(tile)[0].mean)
    assert backend.failure == "RuntimeError: no such header"


def test_backends_are_chosen_by_name_or_by_machine(monkeypatch):
    assert choose("eager").name == "eager"
    monkeypatch.setattr("analysis.kernels.choice.has_compiler", lambda: False)
    assert choose("auto").name == "eager"
    with pytest.raises(InputError, match="compiler"):
        choose("compiled")
    monkeypatch.setattr("analysis.kernels.choice.has_compiler", lambda: True)
    assert choose("auto").name == "compiled"
    assert choose("auto", device="mps").name == "eager"
    with pytest.raises(InputError, match="CUDA"):
        choose("triton")
