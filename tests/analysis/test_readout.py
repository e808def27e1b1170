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
from tests.tolerance import close, identity, near, of_sum, within

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
    )


@pytest.mark.parametrize("name", ALL)
def test_log_probabilities_are_the_models_own(name, tiny_model):
    model = tiny_model(name)
    tokens = model.tokens(tiny.token_ids(20, seed=3))
    resid = model.run(tokens, capture=[f"blocks.{model.last_layer}.hook_resid_post"])
    with torch.inference_mode():
        ours = model.readout.log_probs(next(iter(resid.values())))
        own = model.logits(tokens).log_softmax(-1)
    within(ours, own, identity(model))


@pytest.mark.parametrize("name", ["gpt2", "neox", "phi", "opt", "llama"])
def test_folding_centres_every_direction(name, tiny_model):
    readout = tiny_model(name).readout

    def sums_to_zero(values: torch.Tensor, dim: int) -> None:
        sizes = values.abs().sum(dim)
        close(values.sum(dim), torch.zeros_like(sizes), 2 * values.shape[dim], scale=float(sizes.max()))

    sums_to_zero(readout.W_U, 1)
    sums_to_zero(readout.b_U, 0)
    if readout.centred:
        sums_to_zero(readout.W_U, 0)
        sums_to_zero(readout.W_out, 1)


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
    close(theirs_W - theirs_W.mean(1, keepdim=True), ours.W_U, 2 * tiny.D_MODEL, dtype=torch.float32)
    close(theirs_b, ours.b_U, 2 * tiny.D_MODEL, dtype=torch.float32)


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
    within(before, after, identity(model))


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
        readout.vocab_mean_W, readout.vocab_mean_b, readout.known,
    )  # fmt: skip
    x = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    moved = x + 2.5 * U[:, -2]
    scale, scale_moved = planted.scale(x), planted.scale(moved)
    n = 3 * 12  # the projection, the norm, the logits
    largest = float((moved.norm(dim=1).max() * planted.W_U.norm(dim=0).max() / scale.min()).clamp_min(1))
    close(planted.logits(moved, scale=scale), planted.logits(x), n, scale=largest)
    rescaled = (scale / scale_moved)[:, None] * (planted.logits(x) - planted.b_U)
    close(planted.logits(moved) - planted.b_U, rescaled, n, scale=largest)


def test_entropy_falls_with_inverse_temperature():
    """Identity 5: dH/dbeta of softmax(beta z) is -beta Var_P(z)."""
    z = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for beta in (0.3, 1.0, 2.7):
        b = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
        log_p = (b * z).log_softmax(-1)
        (slope,) = torch.autograd.grad(metrics.entropy(log_p), b)
        p = log_p.exp().detach()
        variance = (p * z**2).sum() - (p * z).sum() ** 2
        close(slope, -b.detach() * variance, 2 * len(z), scale=2 * beta * float(z.square().max()))


def test_a_constant_scale_is_used_everywhere():
    readout = random_readout().with_constant_scale(2.0)
    x = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(readout.scale(x), torch.full((4,), 2.0, dtype=torch.float64))
    close(readout.logits(x), readout.logits(x, scale=readout.scale(x)), 12)
    with pytest.raises(InputError):
        readout.with_constant_scale(0.0)


def test_uncentring_gives_the_raw_fold_back():
    centred = random_readout()
    raw = centred.uncentred()
    x = torch.randn(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert raw.W_U.sum(1).abs().max() > 0.1
    largest = float(x.norm(dim=1).max() * raw.W_U.norm(dim=0).max() / raw.scale(x).min())
    close(centred.log_probs(x), raw.log_probs(x), 12 + 31, scale=largest)


@given(v=st.integers(2, 300), scale=st.floats(0, 50))
@settings(max_examples=40)
def test_bounds_of_entropy_kl_and_rank(v, scale):
    """Identity 10: 0 <= H <= ln V, uniform logits reach it; KL >= 0; ranks lie in the vocabulary."""
    g = torch.Generator().manual_seed(v)
    log_p = (scale * torch.randn(3, v, generator=g, dtype=torch.float64)).log_softmax(-1)
    log_q = torch.randn(3, v, generator=g, dtype=torch.float64).log_softmax(-1)
    h = metrics.entropy(log_p)
    rounding = of_sum(v, scale=1 + float(log_p.abs().max()))
    assert (h >= -rounding).all()
    assert (h <= math.log(v) + rounding).all()
    assert (metrics.kl(log_q, log_p) >= -rounding).all()
    assert (metrics.rank(log_p, log_p.argmax(-1)) == 0).all()
    uniform = torch.zeros(v, dtype=torch.float64).log_softmax(-1)
    assert float(metrics.entropy(uniform)) == near(math.log(v), v)


@given(v=st.integers(2, 400), n=st.integers(1, 9), scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3]))
@settings(max_examples=40)
def test_the_summary_equals_the_separate_metrics(v, n, scale):
    g = torch.Generator().manual_seed(v * n)
    logits = scale * torch.randn(n, v, generator=g, dtype=torch.float64)
    target = torch.randint(v, (n,), generator=g)
    p_freq = torch.randn(v, generator=g, dtype=torch.float64).softmax(-1)
    log_p = logits.log_softmax(-1)
    found = metrics.summary(logits, target, p_freq)
    sizes = 1 + float(log_p.abs().max())
    close(found.entropy, metrics.entropy(log_p), v, scale=sizes)
    close(found.loss, metrics.loss(log_p, target), v, scale=sizes)
    close(found.top1_prob, log_p.exp().amax(-1), v, scale=sizes)  # exp(log p) has the error of log p
    assert torch.equal(found.rank, metrics.rank(logits, target))
    expected = metrics.kl(p_freq.log(), log_p) - (p_freq * p_freq.log()).sum()
    close(found.cross_entropy, expected, v, scale=sizes)


def test_entropy_of_a_certain_distribution_is_zero_not_nan():
    log_p = torch.tensor([0.0, -torch.inf, -torch.inf])
    assert float(metrics.entropy(log_p)) == 0.0


def test_neuron_outside_the_model_is_named(tiny_model):
    with pytest.raises(Exception, match=r"no neuron 5\.1"):
        tiny_model("gpt2").check_neuron(NeuronId(5, 1))
