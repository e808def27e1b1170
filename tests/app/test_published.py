"""Shapes known before a download are consistent: built without weights, a model of that shape has that many numbers."""

from typing import Any

import pytest
import torch

from analysis.registry import HUB_MODELS
from app.core.residency.published import PUBLISHED

# What the shape alone does not say: key-value heads, head size, and whether the unembedding is the embedding.
MORE: dict[str, dict[str, Any]] = {
    "pythia": {"tie_word_embeddings": False},
    "opt": {"word_embed_proj_dim": "d_model"},
    "llama-2": {"num_key_value_heads": 32},
    "llama-3": {"num_key_value_heads": 8},
    "mistral": {"num_key_value_heads": 8, "head_dim": 128},
    "qwen2.5-0.5b": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen2.5-1.5b": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "gemma-2b": {"num_key_value_heads": 1, "head_dim": 256},
    "gemma-2-2b": {"num_key_value_heads": 4, "head_dim": 256},
    "olmo": {"num_key_value_heads": 16},
}


def test_every_hub_model_is_there() -> None:
    assert PUBLISHED.keys() == HUB_MODELS.keys()


@pytest.mark.parametrize("key", PUBLISHED)
def test_the_shape_has_that_many_numbers(key: str) -> None:
    import transformers

    facts = PUBLISHED[key]
    kind = getattr(transformers, facts.architecture)
    names = (
        {"n_embd": "d_model", "n_layer": "n_layers", "n_head": "n_heads", "n_inner": "d_mlp", "n_positions": "n_ctx"}
        if key.startswith("gpt2")
        else {
            "hidden_size": "d_model",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "ffn_dim" if key.startswith("opt") else "intermediate_size": "d_mlp",
            "max_position_embeddings": "n_ctx",
        }
    )
    options: dict[str, Any] = {name: getattr(facts, of) for name, of in names.items()}
    options |= {
        k: facts.d_model if v == "d_model" else v
        for start in MORE
        if key.startswith(start)
        for k, v in MORE[start].items()
    }
    layers, options[next(iter(n for n, of in names.items() if of == "n_layers"))] = facts.n_layers, 2
    with torch.device("meta"):  # shapes only, two layers: all are alike
        model = kind(kind.config_class(vocab_size=facts.d_vocab, **options))
    total = sum(p.numel() for p in model.parameters())
    layer = sum(p.numel() for name, p in model.named_parameters() if ".0." in name)
    assert total + (layers - 2) * layer == facts.n_parameters
