"""The accuracy contract: differences of entropy and loss within max(2e-5, 4 eps max|z|) nats in float32, every backend.

The oracle is float64 arithmetic on the same weights, straight through the readout. The sweeps over vocabularies, scales
and instruction sets are slow (`make test-slow`).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from analysis.effects import Engine, effects
from analysis.frequency import Unigram, freeze_frequency, unigram
from analysis.kernels import Backend, libraries
from analysis.kernels.arithmetic import BLOCK, reduction
from analysis.kernels.choice import has_compiler
from analysis.kernels.compiled import Compiled, Forms
from analysis.kernels.eager import Eager
from analysis.readout import Readout, fold
from analysis.trace import LastLayer
from tests.tolerance import EFFECT

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
    allowed = max(EFFECT, 4 * EPS * largest)
    for name, reference in expected.items():
        for parts, value in zip((table.d_entropy, table.d_loss), reference, strict=True):
            assert parts is not None
            frozen = parts.total - parts.frequency_mediated if parts.frequency_mediated is not None else None
            got = frozen if name == "frequency" else getattr(parts, name)
            assert (got - value).abs().max() <= allowed, (name, largest)


seeds, scales = st.integers(0, 10_000), st.floats(-3, 3).map(lambda power: 10.0**power)


@given(seed=seeds, vocab=st.integers(2, 3000), scale=scales, layer_norm=st.booleans())
@example(seed=1, vocab=130_000, scale=3.0, layer_norm=False)
@settings(max_examples=20)
def test_eager_keeps_the_accuracy_contract(seed, vocab, scale, layer_norm):
    check_contract(Eager(), seed, vocab, scale, layer_norm=layer_norm)


@given(seed=seeds, vocab=st.integers(2, 500), scale=scales, cap=st.floats(1, 50))
@settings(max_examples=10)
def test_eager_keeps_it_with_capped_logits(seed, vocab, scale, cap):
    check_contract(Eager(), seed, vocab, scale, layer_norm=False, cap=cap)


@given(seed=seeds, vocab=st.integers(2, 3000), scale=scales)
@settings(max_examples=20)
def test_the_arithmetic_that_is_compiled_keeps_it(seed, vocab, scale):
    check_contract(Compiled(wait=True, forms=Forms(reduction)), seed, vocab, scale)


@pytest.mark.slow
@given(seed=seeds, vocab=st.integers(2, 130_000), scale=scales, layer_norm=st.booleans())
@example(seed=0, vocab=130_000, scale=1e-3, layer_norm=True)
@example(seed=2, vocab=130_000, scale=1e3, layer_norm=True)
@settings(max_examples=60)
def test_eager_keeps_it_at_every_size(seed, vocab, scale, layer_norm):
    check_contract(Eager(), seed, vocab, scale, layer_norm=layer_norm)


@pytest.mark.slow
@given(seed=seeds, vocab=st.integers(2, 5000), scale=scales, cap=st.floats(1, 50))
@settings(max_examples=60)
def test_eager_keeps_it_with_capped_logits_of_every_size(seed, vocab, scale, cap):
    check_contract(Eager(), seed, vocab, scale, layer_norm=False, cap=cap)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("vocab", [2, BLOCK - 1, 130_000])
def test_compiled_keeps_the_accuracy_contract(vocab):
    backend = Compiled(wait=True, forms=Forms())

    @given(seed=seeds, scale=scales)
    @example(seed=0, scale=1e-3)
    @example(seed=1, scale=10.0)
    @example(seed=2, scale=1e3)
    @settings(max_examples=25 if vocab < 1000 else 8, database=None)
    def check(seed, scale):
        check_contract(backend, seed, vocab, scale)

    check()
    assert backend.failure is None
    assert backend.asked
    assert not backend.compiling


@pytest.mark.slow
@needs_compiler
def test_it_needs_no_vectors(monkeypatch, tmp_path):
    """A processor with one lane rounds as often as a sum is long: blocks are short enough for that."""
    monkeypatch.setattr(libraries, "_folder", lambda: tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # for the compiler's process: this one has made its choice
    backend = Compiled(wait=True, forms=Forms())
    for vocab in (16 * BLOCK - 1, 130_000):
        for seed in range(3):
            check_contract(backend, seed, vocab, 1.0)
    assert backend.failure is None
