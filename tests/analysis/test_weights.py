"""Weight statistics: streamed equals direct, whatever the blocks; the invariances of METHODS section 6."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import weights
from analysis.frequency import Unigram, unigram
from analysis.model import Model
from analysis.readout import Readout
from analysis.weights import Vocabulary
from tests import tiny
from tests.tolerance import close, near, of_sum

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
TERMS = tiny.D_MODEL + tiny.N_TOKENS
"""A cosine is a sum over d_model, its moments are sums over the tokens; a quadratic form holds both."""


def counted(model: Model) -> Unigram:
    counts = torch.randint(0, 500, (tiny.N_TOKENS,), generator=torch.Generator().manual_seed(3))
    return unigram(counts, d_vocab=model.d_vocab, source="made up")


def cosines(rows: torch.Tensor, readout: Readout) -> torch.Tensor:
    """The obvious array of neurons by tokens, padding left out; a token without an unembedding has cosine 0."""
    W_U = readout.W_U[:, : readout.n_tokens].double()
    return ((rows.double() @ W_U) / rows.double().norm(dim=1)[:, None] / W_U.norm(dim=0)).nan_to_num(0.0)


@pytest.mark.parametrize("name", ALL)
def test_every_column_equals_the_direct_computation(tiny_model: Callable[..., Model], name: str) -> None:
    model = tiny_model(name)
    readout, freq = model.readout, counted(model)
    vocabulary = Vocabulary.of(readout, freq)
    for layer in range(model.n_layers):
        rows = model.write_rows(layer)
        c = cosines(rows, readout)
        centred = c - c.mean(1, keepdim=True)
        second = centred.square().mean(1)
        found = weights.moments(rows, vocabulary)
        unit = rows / rows.norm(dim=1, keepdim=True)
        close(vocabulary.logit_var(unit), c.var(1, correction=1), TERMS, scale=1)
        skew, kurtosis = centred.pow(3).mean(1) / second**1.5, centred.pow(4).mean(1) / second**2
        close(found.skew, skew, TERMS, scale=shape_scale(kurtosis, second))
        close(found.kurtosis, kurtosis, TERMS, scale=shape_scale(kurtosis, second))
        effect = (rows @ readout.W_U)[:, : readout.n_tokens]
        length = (effect - effect.mean(1, keepdim=True)).norm(dim=1) / rows.norm(dim=1)
        lengths = float((readout.W_U.norm() / length).max())  # what a length is lost in
        close(vocabulary.v_score(unit), 1 / (1 + length), TERMS, scale=lengths)
        v = freq.direction[: readout.n_tokens]
        squares = rows.square().sum(1) * readout.W_U.square().sum()  # what the squared length of an effect sums up
        lost = float((squares / effect.square().sum(1)).max())
        close(vocabulary.alignment(rows), torch.cosine_similarity(effect, v[None], dim=1), TERMS, scale=lost)
        top, bottom = effect.topk(5, dim=1), effect.topk(5, dim=1, largest=False)
        assert torch.equal(found.raised, top.indices)
        assert torch.equal(found.lowered, bottom.indices)
        products = float(rows.norm(dim=1).max() * readout.W_U.norm(dim=0).max())
        close(found.raised_by, top.values, tiny.D_MODEL, scale=products)
        close(found.lowered_by, bottom.values, tiny.D_MODEL, scale=products)


def shape_scale(kurtosis: torch.Tensor, second: torch.Tensor) -> float:
    """Roundings of cosines of size 1 count relative to their spread, and four times in a fourth power."""
    return 4 * float(kurtosis.max() / second.min().sqrt())


@pytest.mark.parametrize("block", [40, 41, 1000, 1 << 20])
def test_blocks_do_not_matter(tiny_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    model = tiny_model("gpt2")
    vocabulary, rows = Vocabulary.of(model.readout), model.write_rows(0)
    whole = weights.moments(rows, vocabulary)
    monkeypatch.setattr(weights, "CPU_BLOCK_ELEMENTS", block)
    part = weights.moments(rows, vocabulary)
    scale = shape_scale(whole.kurtosis, vocabulary.logit_var(rows / rows.norm(dim=1, keepdim=True)))
    close(part.skew, whole.skew, TERMS, scale=scale)
    close(part.kurtosis, whole.kurtosis, TERMS, scale=scale)
    assert torch.equal(part.raised, whole.raised)
    assert torch.equal(part.lowered, whole.lowered)


def test_float32_stays_close_to_float64(tiny_model: Callable[..., Model]) -> None:
    exact, single = tiny_model("gpt2"), tiny_model("gpt2", dtype=torch.float32)
    vocabulary, rows = Vocabulary.of(exact.readout), exact.write_rows(1)
    a = weights.moments(rows, vocabulary)
    b = weights.moments(single.write_rows(1), Vocabulary.of(single.readout))
    scale = shape_scale(a.kurtosis, vocabulary.logit_var(rows / rows.norm(dim=1, keepdim=True)))
    # In float32 are the weights and the cosines; the moments are summed in float64.
    close(b.kurtosis, a.kurtosis, tiny.D_MODEL, scale=scale, dtype=torch.float32)
    close(b.skew, a.skew, tiny.D_MODEL, scale=scale, dtype=torch.float32)


@settings(max_examples=25)
@given(factor=st.floats(0.01, 100), token=st.integers(0, tiny.N_TOKENS - 1), column=st.floats(0.01, 100))
def test_logit_var_ignores_lengths(factor: float, token: int, column: float) -> None:
    """Identity 6: neither the length of w nor that of a column of W_U matters."""
    model = _gpt2()
    rows = model.write_rows(1)
    vocabulary = Vocabulary.of(model.readout)
    unit = rows / rows.norm(dim=1, keepdim=True)
    before = vocabulary.logit_var(unit)
    scaled = rows * factor
    close(vocabulary.logit_var(scaled / scaled.norm(dim=1, keepdim=True)), before, TERMS, scale=1)
    W_U = model.readout.W_U.clone()
    W_U[:, token] *= column
    changed = Vocabulary.of(_with(model.readout, W_U))
    close(changed.logit_var(unit), before, TERMS, scale=1)


def _gpt2() -> Model:
    global _MODEL
    _MODEL = _MODEL or tiny.model("gpt2")
    return _MODEL


_MODEL: Model | None = None


def _with(readout: Readout, W_U: torch.Tensor) -> Readout:
    from dataclasses import replace

    return replace(readout, W_U=W_U)


def test_padding_is_left_out_unless_asked_for(tiny_model: Callable[..., Model]) -> None:
    readout = tiny_model("gpt2").readout
    assert Vocabulary.of(readout).W_U.shape[1] == tiny.N_TOKENS
    assert Vocabulary.of(readout, padded=True).W_U.shape[1] == tiny.D_VOCAB


def test_a_row_that_moves_no_logit_has_no_alignment_and_no_moments(tiny_model: Callable[..., Model]) -> None:
    """The all-ones direction is an exact null direction in a LayerNorm model: what is left is rounding."""
    model = tiny_model("gpt2")
    vocabulary = Vocabulary.of(model.readout, counted(model))
    ones = torch.ones(1, model.d_model, dtype=torch.float64)
    assert bool(vocabulary.alignment(ones).isnan().all())
    assert float(vocabulary.logit_var(ones / ones.norm())) < of_sum(TERMS)  # of terms that add up to 1
    found = weights.moments(ones, vocabulary)
    assert bool(found.skew.isnan().all())
    assert bool(found.kurtosis.isnan().all())


def test_without_counts_there_is_no_alignment(tiny_model: Callable[..., Model]) -> None:
    model = tiny_model("gpt2")
    assert bool(Vocabulary.of(model.readout).alignment(model.write_rows(0)).isnan().all())


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox"])
def test_shape_speaks_of_the_weights_as_stored(tiny_model: Callable[..., Model], name: str) -> None:
    model = tiny_model(name)
    found = weights.shape(model, 1)
    w_in, w_out = model.W_in(1)[:, 7], model.W_out(1)[7]
    d = tiny.D_MODEL
    assert float(found.norm_in[7]) == near(float(w_in.norm()), d)
    assert float(found.cos_in_out[7]) == near(float(torch.cosine_similarity(w_in, w_out, dim=0)), d, scale=1)
    cost = float(w_in.square().sum() + w_out.square().sum())
    if model.gated:
        gate = model.W_gate(1)
        assert gate is not None
        assert found.cos_gate_in is not None
        cost += float(gate[:, 7].square().sum())
        assert float(found.cos_gate_in[7]) == near(float(torch.cosine_similarity(gate[:, 7], w_in, dim=0)), d, scale=1)
    else:
        assert found.norm_gate is None
    assert float(found.cost[7]) == near(cost, 3 * d)


@pytest.mark.parametrize("name", tiny.POST_NORM)
def test_post_norm_write_rows_carry_the_gain(tiny_model: Callable[..., Model], name: str) -> None:
    """What the engine of the effects calls a neuron's direction is what the atlas measures."""
    from analysis.effects import Engine

    model = tiny_model(name)
    engine = Engine.build(model.readout, backend="eager")
    close(engine.directions(slice(None)), model.write_rows(model.last_layer), tiny.D_MODEL)
