"""The lens reads each stream as the readout would; at the last block it is the model's own output."""

from collections.abc import Callable

import pytest
import torch

from analysis.lens import LensLayer, lens
from analysis.model import Model
from analysis.trace import top_tokens, trace
from tests import tiny
from tests.tolerance import EFFECT

IDS = tiny.token_ids(12)


def layers(model: Model, **options: object) -> dict[str, LensLayer]:
    return {layer.name: layer for layer in lens(model, IDS, **options)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES, *tiny.POST_NORM])
def test_the_last_reading_is_the_trace(name: str, tiny_model: Callable[..., Model]) -> None:
    model = tiny_model(name)
    found = layers(model, top_k=3)
    assert list(found) == ["embed", *(f"L{layer}.{block}" for layer in range(2) for block in ("attn", "mlp"))]
    last, run = found["L1.mlp"], trace(model, IDS)
    for mine, theirs in ((last.entropy, run.metrics.entropy), (last.ln_scale, run.metrics.ln_scale)):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-9)
    assert torch.allclose(last.loss[:-1], run.metrics.loss[:-1], rtol=0, atol=1e-9)
    assert last.loss[-1].isnan()
    assert last.kl_final.abs().max() < 1e-9
    assert torch.equal(last.top_ids, top_tokens(model.readout, run.last.resid, 3).ids)


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "gemma3"])
def test_a_reading_is_the_readout_of_the_captured_stream(name: str, tiny_model: Callable[..., Model]) -> None:
    model = tiny_model(name)
    names = ["blocks.0.hook_resid_pre", "blocks.0.hook_attn_out", "blocks.0.hook_mlp_out", "blocks.0.hook_resid_post"]
    before, attention, mlp, after = (model.run(model.tokens(IDS), capture=names)[each][0] for each in names)
    for of, expected in (
        ("stream", {"embed": before, "L0.attn": before + attention, "L0.mlp": after}),
        ("block", {"embed": before, "L0.attn": attention, "L0.mlp": mlp}),
    ):
        found = layers(model, of=of)
        for layer, stream in expected.items():
            log_probs = model.readout.log_probs(stream)
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            assert torch.allclose(found[layer].entropy, entropy, rtol=0, atol=1e-9), (of, layer)
            assert torch.equal(found[layer].top_ids[:, 0], log_probs.argmax(-1))


def test_frozen_means_the_scale_of_the_last_stream(tiny_model: Callable[..., Model]) -> None:
    model = tiny_model("gpt2")
    own, frozen = layers(model), layers(model, scale="frozen")
    scale = own["L1.mlp"].ln_scale
    assert all(torch.equal(layer.ln_scale, scale) for layer in frozen.values())
    assert torch.allclose(frozen["L1.mlp"].entropy, own["L1.mlp"].entropy, rtol=0, atol=1e-12)
    stream = model.run(model.tokens(IDS), capture=["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"][0]
    logits = model.readout.logits(stream, scale=scale).log_softmax(-1)
    assert torch.allclose(frozen["L0.mlp"].entropy, -(logits.exp() * logits).sum(-1), rtol=0, atol=1e-9)
    assert not torch.allclose(frozen["L0.mlp"].entropy, own["L0.mlp"].entropy)


def test_a_model_in_half_precision_is_read_in_float32(tiny_model: Callable[..., Model]) -> None:
    model = tiny_model("gpt2", dtype=torch.bfloat16)
    last, run = layers(model)["L1.mlp"], trace(model, IDS)
    assert last.entropy.dtype == torch.float32
    assert torch.allclose(last.entropy, run.metrics.entropy, rtol=0, atol=EFFECT)
    assert layers(model, scale="frozen", of="block").keys() == layers(model).keys()
