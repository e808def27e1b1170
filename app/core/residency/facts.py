"""What can be said about a model folder without loading it: its shape, its size, the memory that loading takes."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from analysis.folder import numbers_in, read_json, weight_files
from analysis.types import UnsupportedModelError

RMS_TYPES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "olmo2", "mixtral", "phi3"}
)
# Their query, key and value weights are stored interleaved, and the hooks' bridge keeps a second copy, taken apart.
COPIED_QKV_TYPES = frozenset({"gpt_neox"})
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
OVERHEAD = 1.15  # module wrappers, tokenizer, allocator


@dataclass(frozen=True)
class Facts:
    """Shape and size of a model on disk."""

    architecture: str | None
    d_model: int
    n_layers: int
    n_heads: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: Literal["LN", "RMS"]
    n_parameters: int  # in the files
    n_copied: int  # held a second time once loaded
    bytes_on_disk: int | None  # null: not on this machine

    def bytes_needed(self, dtype: str) -> int:
        """Weights in their dtype, and the folded readout (W_U twice while it is made, W_out) in float32."""
        readout = 4 * (2 * self.d_model * self.d_vocab + self.d_model * self.d_mlp)
        return math.ceil(OVERHEAD * ((self.n_parameters + self.n_copied) * ITEM_BYTES[dtype] + readout))


def read_facts(folder: Path) -> Facts:
    """Read config.json and the headers of the safetensors files; UnsupportedModelError when they make no sense."""
    config = read_json(folder, "config.json", folder.name)
    files = weight_files(folder, folder.name)
    d_model = _first(config, "hidden_size", "n_embd", "d_model")
    n_layers = _first(config, "num_hidden_layers", "n_layer", "num_layers")
    kind, architectures = config.get("model_type"), config.get("architectures")
    return Facts(
        architecture=architectures[0] if isinstance(architectures, list) and architectures else None,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=_first(config, "num_attention_heads", "n_head", "num_heads"),
        d_mlp=_first(config, "intermediate_size", "n_inner", "ffn_dim", default=4 * d_model),
        d_vocab=_first(config, "vocab_size"),
        n_ctx=_first(config, "max_position_embeddings", "n_positions", "n_ctx"),
        norm="RMS" if isinstance(kind, str) and kind in RMS_TYPES else "LN",
        n_parameters=sum(numbers_in(file) for file in files),
        n_copied=3 * n_layers * (d_model**2 + d_model) if kind in COPIED_QKV_TYPES else 0,
        bytes_on_disk=sum(file.stat().st_size for file in files),
    )


def _first(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        if isinstance(value := config.get(name), int):
            return value
    if default is None:
        raise _unreadable(f"config.json has no number under {' or '.join(names)}.", "Serve a language model's folder.")
    return default


def _unreadable(message: str, hint: str = "Copy or download it again.") -> UnsupportedModelError:
    return UnsupportedModelError(message, code="unreadable_model", hint=hint)
