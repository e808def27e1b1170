"""The ledger's parts sum to the whole, and each is what its component writes."""

from __future__ import annotations

import pytest
import torch

from analysis.components import Component
from analysis.ledger import Ledger, ledger
from analysis.nullspace import spectrum
from analysis.trace import trace
from analysis.types import InputError
from tests import tiny
from tests.tolerance import close, near, of_sum

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)
IDS = tiny.token_ids(9)
ROUNDINGS = tiny.D_MODEL + tiny.D_MLP
"""Of a share: a component is a sum over at most d_mlp, its product with the stream one over d_model."""


def dtype_inside(name: str) -> torch.dtype:
    """What a norm after the MLP is computed in, whatever the model's dtype: what a component wrote is that exact."""
    return torch.float32 if name in tiny.POST_NORM else torch.float64


def sizes(book: Ledger) -> float:
    """What the sizes of the shares add up to: they may cancel."""
    return float(book.share.abs().sum() + book.neuron_share.abs().sum())


@pytest.mark.parametrize("name", ALL)
def test_shares_sum_to_the_squared_scale(name, tiny_model):
    model = tiny_model(name)
    clean = trace(model, IDS)
    book = ledger(model, IDS, 5)
    assert book.scale == near(float(clean.metrics.ln_scale[5]), tiny.D_MODEL)
    bound = of_sum(ROUNDINGS, dtype_inside(name), sizes(book))
    assert abs(float(book.share.sum()) + book.eps - book.scale**2) < bound
    assert abs(book.remainder) < bound < 1e-3 * book.scale**2
    kinds = [component.kind for component in book.components]
    assert kinds.count("head") == model.n_layers * model.n_heads
    assert kinds.count("mlp") == model.n_layers
    assert kinds[0] == "embedding"
    assert kinds[-1] == "biases"


@pytest.mark.parametrize("name", ALL)
def test_neurons_sum_to_the_last_mlp(name, tiny_model):
    book = ledger(tiny_model(name), IDS, 5)
    last = book.share[len(book.components) - 2]
    assert book.components[-2].kind == "mlp"
    assert float(book.neuron_share.sum()) == near(float(last), ROUNDINGS, scale=sizes(book), dtype=dtype_inside(name))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_null_and_row_space_parts(name, tiny_model):
    """Identity 6: the parts in and outside the null space sum to the share; the whole space takes everything."""
    model = tiny_model(name)
    basis = spectrum(model.readout).basis(5)
    book = ledger(model, IDS, 5, null_basis=basis)
    clean = trace(model, IDS)
    xc = model.readout.centre(clean.last.resid[5])
    assert book.null_total == near(float((basis.T @ xc).square().sum() / model.d_model), ROUNDINGS, scale=sizes(book))
    assert 0 < book.null_total < book.scale**2
    whole = ledger(model, IDS, 5, null_basis=torch.eye(model.d_model, dtype=torch.float64))
    close(whole.null, whole.share, ROUNDINGS, scale=sizes(whole))
    close(whole.neuron_null, whole.neuron_share, ROUNDINGS, scale=sizes(whole))


def test_a_silenced_head_is_worth_nothing(tiny_model):
    """The row of a head is the share of what it alone adds to the attention's output."""
    model = tiny_model("gpt2")
    book = ledger(model, IDS, 4)
    index = book.components.index(Component("head", 1, 2))
    hook = ("blocks.1.attn.hook_z", lambda z: z * (torch.arange(model.n_heads) != 2)[:, None])
    after = model.run(model.tokens(IDS), capture=["blocks.1.hook_attn_out"], hooks=[hook])
    before = model.run(model.tokens(IDS), capture=["blocks.1.hook_attn_out"])
    wrote = (before["blocks.1.hook_attn_out"] - after["blocks.1.hook_attn_out"])[0, 4]
    xc = model.readout.centre(trace(model, IDS).last.resid[4])
    expected = float(model.readout.centre(wrote) @ xc / model.d_model)
    assert float(book.share[index]) == near(expected, ROUNDINGS, scale=sizes(book))
    assert str(book.components[index]) == "L1H2"


def test_positions_outside_are_refused(tiny_model):
    with pytest.raises(InputError, match="Position 9"):
        ledger(tiny_model("gpt2"), IDS, 9)
