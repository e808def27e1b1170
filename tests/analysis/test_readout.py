"""The readout is the model's own last layer (METHODS sections 1 and 6, identities 1, 2, 4, 5, 8, 10)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import metrics
from analysis.readout import Readout, fold
from analysis.types import InputError, NeuronId, UnsupportedModelError
from tests import tiny

ALL = (*tiny.ARCHITECTURES, *tiny.POST_NORM)


def random_readout(*, layer_norm: bool = True, bias: bool = True, seed: int = 0, d: int = 12, v: int = 31) -> Readout:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return fold(
        W_U=normal(d, v),
        b_U=normal(v) if bias else None,
        W_out=normal(20, d),
        gain=1 + 0.3 * normal(d),
        bias=normal(d) if layer_norm and bias else None,
        eps=1e-5,
        layer_norm=layer_norm,
        n_tokens=v,
    )


@pytest.mark.parametrize("name", ALL)
def test_log_probabilities_are_the_models_own(name, tiny_model):
    model = tiny_model(name)
    tokens = model.tokens(tiny.token_ids(20, seed=3))
    resid = model.run(tokens, capture=[f"blocks.{model.last_layer}.hook_resid_post"])
    with torch.inference_mode():
        ours = model.readout.log_probs(next(iter(resid.values())))
        own = model.logits(tokens).log_softmax(-1)
    torch.testing.assert_close(ours, own, atol=1e-6 if model.norm == "RMS" else 1e-9, rtol=0)


@pytest.mark.parametrize("name", ["gpt2", "neox", "phi", "opt", "llama"])
def test_folding_centres_every_direction(name, tiny_model):
    readout = tiny_model(name).readout
    zeros = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(readout.W_U.sum(1).abs().max(), zeros, atol=1e-10, rtol=0)
    torch.testing.assert_close(readout.b_U.sum(), zeros, atol=1e-10, rtol=0)
    if readout.centred:
        torch.testing.assert_close(readout.W_U.sum(0).abs().max(), zeros, atol=1e-10, rtol=0)
        torch.testing.assert_close(readout.W_out.sum(1).abs().max(), zeros, atol=1e-10, rtol=0)


def test_folding_agrees_with_transformer_lens_compatibility_mode():
    """TransformerLens' own fold (in place) is the oracle: same W_U up to centring, same b_U."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    ours = tiny.model("gpt2").readout
    hf = tiny.hf_model("gpt2")
    bridge = build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config)
    bridge.enable_compatibility_mode(disable_warnings=True)
    theirs_W, theirs_b = bridge.W_U.detach(), bridge.b_U.detach()
    theirs_W, theirs_b = theirs_W - theirs_W.mean(0, keepdim=True), theirs_b - theirs_b.mean()
    # TransformerLens folds in float32
    torch.testing.assert_close(ours.W_U, theirs_W - theirs_W.mean(1, keepdim=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.b_U, theirs_b, atol=1e-6, rtol=0)


def test_b_U_is_not_zero_after_folding(tiny_model):
    assert tiny_model("gpt2").readout.b_U.abs().max() > 0.1


@pytest.mark.parametrize("name", ALL)
def test_writing_a_change_equals_a_hooked_pass(name, tiny_model):
    model = tiny_model(name)
    tokens = model.tokens(tiny.token_ids(9))
    last = f"blocks.{model.last_layer}"
    post, mlp_out, resid = f"{last}.mlp.hook_post", f"{last}.mlp.hook_out", f"{last}.hook_resid_post"
    clean = model.run(tokens, capture=[post, mlp_out, resid])

    def change(n: torch.Tensor) -> torch.Tensor:
        changed = n.clone()
        changed[:, 2:, 7] = 1.5
        return changed

    hooked = model.run(tokens, capture=[post, resid], hooks=[(post, change)])
    with torch.inference_mode():
        delta = (hooked[post] - clean[post])[0, :, [7]]
        ours = model.readout.write(clean[resid][0], clean[mlp_out][0], delta, model.readout.W_out[[7]])
        before, after = (model.readout.log_probs(x) for x in (ours, hooked[resid][0]))
    assert (clean[resid] - hooked[resid]).abs().max() > 1e-3
    torch.testing.assert_close(before, after, atol=1e-6 if model.norm == "RMS" else 1e-9, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_self_check_passes_and_states_figures(name, tiny_model):
    check = tiny_model(name).self_check
    assert check.holds
    assert 0 <= check.logits_error <= check.tolerance


def test_a_readout_that_is_not_the_models_is_refused(monkeypatch):
    """Cap a model's logits behind the readout's back: loading must refuse it, with the figures."""
    hf = tiny.hf_model("gpt2")
    monkeypatch.setattr(type(hf.lm_head), "forward", lambda self, x: (x @ self.weight.T).tanh())
    from analysis.model import from_objects
    from analysis.registry import ModelSpec

    with pytest.raises(UnsupportedModelError, match="log-probabilities differ by"):
        from_objects(ModelSpec("capped"), hf, tiny.tokenizer(), weights_sha256="")


def test_an_unknown_norm_after_the_mlp_is_refused():
    """A norm between the MLP and the residual stream that the readout does not know of must not pass unseen."""
    hf = tiny.hf_model("gpt2")
    mlp = hf.transformer.h[-1].mlp
    plain = mlp.c_proj.forward
    mlp.c_proj.forward = lambda x: torch.nn.functional.layer_norm(plain(x), (24,))
    from analysis.model import from_objects
    from analysis.registry import ModelSpec

    with pytest.raises(UnsupportedModelError, match="written residual"):
        from_objects(ModelSpec("hidden-norm"), hf, tiny.tokenizer(), weights_sha256="")


@pytest.mark.parametrize("layer_norm", [True, False])
def test_a_null_direction_only_changes_the_scale(layer_norm):
    """Identity 4: w in the exact null space leaves frozen logits alone and rescales z - b_U by s / s'."""
    readout = random_readout(layer_norm=layer_norm)
    U = torch.linalg.svd(readout.W_U)[0]
    constrained = readout.W_U - U[:, -3:] @ (U[:, -3:].T @ readout.W_U)
    planted = Readout(
        constrained, readout.b_U, readout.W_out, readout.eps, readout.centred, True,
        readout.vocab_mean_W, readout.vocab_mean_b, readout.n_tokens,
    )  # fmt: skip
    x = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moved = x + 2.5 * U[:, -2]
    scale, scale_moved = planted.scale(x), planted.scale(moved)
    torch.testing.assert_close(planted.logits(moved, scale=scale), planted.logits(x))
    torch.testing.assert_close(
        planted.logits(moved) - planted.b_U, (scale / scale_moved)[:, None] * (planted.logits(x) - planted.b_U)
    )


def test_entropy_falls_with_inverse_temperature():
    """Identity 5: dH/dbeta of softmax(beta z) is -beta Var_P(z)."""
    z = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for beta in (0.3, 1.0, 2.7):
        b = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
        log_p = (b * z).log_softmax(-1)
        (slope,) = torch.autograd.grad(metrics.entropy(log_p), b)
        p = log_p.exp().detach()
        variance = (p * z**2).sum() - (p * z).sum() ** 2
        torch.testing.assert_close(slope, -b.detach() * variance)


def test_a_constant_scale_is_used_everywhere():
    readout = random_readout().with_constant_scale(2.0)
    x = torch.randn(4, 12, dtype=torch.float64)
    torch.testing.assert_close(readout.scale(x), torch.full((4,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(readout.logits(x), readout.logits(x, scale=readout.scale(x)))
    with pytest.raises(InputError):
        readout.with_constant_scale(0.0)


def test_uncentring_gives_the_raw_fold_back():
    centred = random_readout()
    raw = centred.uncentred()
    x = torch.randn(4, 12, dtype=torch.float64)
    assert raw.W_U.sum(1).abs().max() > 0.1
    torch.testing.assert_close(centred.log_probs(x), raw.log_probs(x))


@given(v=st.integers(2, 300), scale=st.floats(0, 50))
@settings(max_examples=40, deadline=None)
def test_bounds_of_entropy_kl_and_rank(v, scale):
    """Identity 10: 0 <= H <= ln V, uniform logits reach it; KL >= 0; ranks lie in the vocabulary."""
    g = torch.Generator().manual_seed(v)
    log_p = (scale * torch.randn(3, v, generator=g, dtype=torch.float64)).log_softmax(-1)
    log_q = torch.randn(3, v, generator=g, dtype=torch.float64).log_softmax(-1)
    h = metrics.entropy(log_p)
    assert (h >= -1e-12).all()
    assert (h <= math.log(v) + 1e-9).all()
    assert (metrics.kl(log_q, log_p) >= -1e-12).all()
    assert (metrics.rank(log_p, log_p.argmax(-1)) == 0).all()
    uniform = torch.zeros(v, dtype=torch.float64).log_softmax(-1)
    assert math.isclose(float(metrics.entropy(uniform)), math.log(v), rel_tol=1e-12)


@given(v=st.integers(2, 400), n=st.integers(1, 9), scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3]))
@settings(max_examples=40, deadline=None)
def test_the_summary_equals_the_separate_metrics(v, n, scale):
    g = torch.Generator().manual_seed(v * n)
    logits = scale * torch.randn(n, v, generator=g, dtype=torch.float64)
    target = torch.randint(v, (n,), generator=g)
    p_freq = torch.randn(v, generator=g, dtype=torch.float64).softmax(-1)
    log_p = logits.log_softmax(-1)
    found = metrics.summary(logits, target, p_freq)
    close = {"atol": 1e-9 * max(scale, 1), "rtol": 1e-9}
    torch.testing.assert_close(found.entropy, metrics.entropy(log_p), **close)
    torch.testing.assert_close(found.loss, metrics.loss(log_p, target), **close)
    torch.testing.assert_close(found.top1_prob, log_p.exp().amax(-1), **close)
    assert torch.equal(found.rank, metrics.rank(logits, target))
    expected = metrics.kl(p_freq.log(), log_p) - (p_freq * p_freq.log()).sum()
    torch.testing.assert_close(found.cross_entropy, expected, **close)


def test_entropy_of_a_certain_distribution_is_zero_not_nan():
    log_p = torch.tensor([0.0, -torch.inf, -torch.inf])
    assert float(metrics.entropy(log_p)) == 0.0


def test_neuron_outside_the_model_is_named(tiny_model):
    with pytest.raises(Exception, match=r"no neuron 5\.1"):
        tiny_model("gpt2").check_neuron(NeuronId(5, 1))
