"""Tiny random models of every supported architecture, built from configs: no files, no network.

d_model 24, d_mlp 40, two layers, a byte-level tokenizer of 259 tokens, d_vocab 264 (so five ids are padding).
d_vocab differs from d_model and pad from bos: TransformerLens guesses orientation from shapes and zeroes the pad row.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import torch

from analysis.model import Model, from_objects
from analysis.registry import ModelSpec

D_MODEL, D_MLP, D_VOCAB, N_TOKENS, N_CTX = 24, 40, 264, 259, 48
EXACT = ("gpt2",)
"""In these transformers computes nothing in less than the model's dtype; elsewhere rotary angles, RMS norms or (OPT)
the softmax of attention in float32."""

ARCHITECTURES = ("gpt2", "neox", "llama", "phi", "qwen2", "opt", "mistral", "gemma")
POST_NORM = ("gemma2", "gemma3", "olmo2")


@cache
def tokenizer() -> Any:
    """Byte-level: one token a byte, plus <pad>, <s>, </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: index for index, piece in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def config(name: str, **changes: Any) -> Any:
    """The transformers config of one architecture at tiny size."""
    import transformers as t

    ids = {"vocab_size": D_VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {
        "hidden_size": D_MODEL, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": N_CTX
    }  # fmt: skip
    plain = {**ids, **sizes, "intermediate_size": D_MLP}
    grouped = {**plain, "num_key_value_heads": 2}
    gemma = {**grouped, "head_dim": 6}
    match name:
        case "gpt2":
            made = t.GPT2Config(
                **(
                    {"n_embd": D_MODEL, "n_layer": 2, "n_head": 4, "n_positions": N_CTX, "n_inner": D_MLP}
                    | ids
                    | changes
                )
            )
        case "neox":
            made = t.GPTNeoXConfig(**(plain | changes))
        case "llama":
            made = t.LlamaConfig(**(grouped | changes))
        case "phi":
            made = t.PhiConfig(**(plain | {"num_attention_heads": 3} | changes))  # half of a head rotates: even
        case "qwen2":
            made = t.Qwen2Config(**(grouped | changes))
        case "opt":
            made = t.OPTConfig(**(ids | sizes | {"ffn_dim": D_MLP, "word_embed_proj_dim": D_MODEL} | changes))
        case "mistral":
            made = t.MistralConfig(**(grouped | changes))
        case "gemma":
            made = t.GemmaConfig(**(gemma | changes))
        case "gemma2":
            made = t.Gemma2Config(**(gemma | changes))
        case "gemma3":
            made = t.Gemma3TextConfig(**(gemma | changes))
        case "olmo2":
            made = t.Olmo2Config(**(grouped | changes))
        case _:
            raise KeyError(name)
    return made


def hf_model(name: str = "gpt2", *, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """A random transformers model. Norm gains and biases are random too, so that folding has something to fold."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config(name, **changes), attn_implementation="eager", trust_remote_code=False
        )
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
                elif "wpe" not in parameter_name and "embed_positions" not in parameter_name:
                    parameter.mul_(6)  # initial weights are so small that every effect would be noise
    return model.to(dtype).eval()


def model(name: str = "gpt2", *, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Model:
    """A tiny random Model, wrapped and self-checked."""
    hf = hf_model(name, dtype=dtype, seed=seed, **changes)
    digest = hashlib.sha256(b"".join(p.detach().double().numpy().tobytes() for p in hf.parameters())).hexdigest()
    return from_objects(ModelSpec(f"tiny-{name}", prepend_bos=True), hf, tokenizer(), weights_sha256=digest)


def token_ids(n: int = 16, *, seed: int = 0, bos: bool = True) -> list[int]:
    """Random printable ids, BOS in front."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, N_TOKENS, (n - bos,), generator=generator).tolist()
    return [1, *ids] if bos else ids
