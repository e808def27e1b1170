"""The transformers modules observed by torch's hooks against TransformerLens' bridge, which stays the oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analysis.model import Hook
from tests import tiny
from tests.tolerance import SENSITIVITY, close

ALL = [name for name in (*tiny.ARCHITECTURES, *tiny.POST_NORM) if name != "neox"]
PASS = tiny.N_CTX * SENSITIVITY
"""Roundings of the longest sum, amplified on the way to the last layer as far as to the logits."""

ONLY_BRIDGE = "ln_final.hook_scale"
"""A name that sends a run through the bridge."""


def sites(layer: int) -> list[str]:
    return [f"blocks.{layer}.{name}" for name in ("hook_resid_post", "mlp.hook_post", "mlp.hook_out")]


def double(name: str) -> Hook:
    return name, lambda value: value * 2 - 0.25


@pytest.mark.parametrize("edited", [None, "mlp.hook_post", "mlp.hook_out", "hook_resid_post"])
@pytest.mark.parametrize("name", ALL)
def test_both_ways_give_the_same_activations(name, edited, tiny_model):
    model = tiny_model(name)
    tokens = torch.tensor([tiny.token_ids(9), tiny.token_ids(9, seed=1)])
    hooks = [] if edited is None else [double(f"blocks.0.{edited}")]
    names = [site for layer in range(model.n_layers) for site in sites(layer)]
    assert model._plain.covers(names)
    assert not model._plain.covers([ONLY_BRIDGE])
    found = model.run(tokens, capture=names, hooks=hooks)
    expected = model.run(tokens, capture=[*names, ONLY_BRIDGE], hooks=hooks)
    for site in names:
        assert found[site].shape == expected[site].shape
        close(found[site], expected[site], PASS)
    if edited is not None:
        clean = model.run(tokens, capture=names)
        assert not torch.equal(clean["blocks.1.mlp.hook_post"], found["blocks.1.mlp.hook_post"])


def test_where_the_bridge_computes_differently_it_is_always_asked(tiny_model):
    """Its NeoX attention takes angles in float64 where transformers takes float32."""
    assert not tiny_model("neox")._plain.sites
    assert tiny.model("neox", dtype=torch.float32)._plain.sites


def test_a_capture_sees_what_the_hooks_before_it_made(tiny_model):
    model = tiny_model("gpt2")
    tokens, site = model.tokens(tiny.token_ids(5)), "blocks.0.mlp.hook_post"
    clean = model.run(tokens, capture=[site])[site]
    changed = model.run(tokens, capture=[site], hooks=[double(site), double(site)])[site]
    assert torch.equal(changed, (clean * 2 - 0.25) * 2 - 0.25)


def test_hooks_are_gone_afterwards_also_after_an_error(tiny_model):
    model = tiny_model("gpt2")
    tokens, site = model.tokens(tiny.token_ids(5)), "blocks.0.hook_resid_post"
    clean = model.run(tokens, capture=[site])[site]

    def broken(_: Tensor) -> Tensor:
        raise RuntimeError("a hook that fails")

    with pytest.raises(RuntimeError, match="a hook that fails"):
        model.run(tokens, hooks=[(site, broken)])
    assert torch.equal(model.run(tokens, capture=[site])[site], clean)


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_the_copy_shares_every_parameter(name, tiny_model):
    model = tiny_model(name)
    bridged = {parameter.data_ptr() for parameter in model._bridge.original_model.parameters()}
    assert {parameter.data_ptr() for parameter in model._plain.model.parameters()} <= bridged
