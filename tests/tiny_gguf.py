"""A tiny random Llama as a GGUF file, as llama.cpp writes one: its names, and query and key rows in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests import tiny

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write(
    file: Path, hf: Any, *, quantized: bool = False, without: str = "", extra: dict[str, Tensor] | None = None
) -> None:
    """``hf``: a random Llama. quantized: its matrices in Q8_0. without, extra: a tensor left out, tensors beside."""
    import gguf

    config = hf.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    _vocabulary(writer, config.vocab_size)
    for name, tensor in [*_tensors(hf), *(extra or {}).items()]:
        if name == without:
            continue
        values = tensor.float().numpy()
        if quantized and tensor.ndim == 2:
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(writer: Any, size: int) -> None:
    """The tiny tokenizer's bytes and, since a merge must be, "th"; padded to the model's size as such files are."""
    vocab = sorted(tiny.tokenizer().get_vocab().items(), key=lambda item: item[1])
    pieces = [*(piece for piece, _ in vocab), "th"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*pieces, *(f"[PAD{n}]" for n in range(len(pieces), size))])
    writer.add_token_types([3 if n < 3 else 1 if n < len(pieces) else 5 for n in range(size)])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def _tensors(hf: Any) -> list[tuple[str, Tensor]]:
    found = []
    for name, tensor in hf.state_dict().items():
        stem, kind = name.rsplit(".", 1)
        if stem in TOP:
            found.append((f"{TOP[stem]}.{kind}", tensor))
            continue
        _, _, layer, inner = stem.split(".", 3)
        heads = {"self_attn.q_proj": hf.config.num_attention_heads, "self_attn.k_proj": hf.config.num_key_value_heads}
        if inner in heads:
            tensor = _interleaved(tensor, heads[inner])
        found.append((f"blk.{layer}.{NAMES[inner]}.{kind}", tensor))
    return found


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """llama.cpp rotates neighbours, transformers halves: the rows of a head in the former's order."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return rows.swapaxes(1, 2).reshape(weight.shape).contiguous()


def model(**changes: Any) -> Any:
    """A random Llama in float32 whose matrices' rows Q8_0 can pack: multiples of 32."""
    sizes = {"hidden_size": 32, "intermediate_size": 64}
    return tiny.hf_model("llama", dtype=torch.float32, **(sizes | changes))
