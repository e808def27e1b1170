"""What can be said about a model folder without loading it: its shape, its size, the memory that loading takes."""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from analysis.folder import read_json, weight_files
from analysis.types import UnsupportedModelError

RMS_TYPES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "olmo2", "mixtral", "phi3"}
)
# Their query, key and value weights are stored interleaved, and the hooks' bridge keeps a second copy, taken apart.
COPIED_QKV_TYPES = frozenset({"gpt_neox"})
MAX_HEADER_BYTES = 100_000_000  # the bound of the safetensors format itself
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
        n_parameters=sum(_parameters(file) for file in files),
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


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header: 8 bytes of length, then JSON of name -> dtype, shape, offsets.

    UnsupportedModelError naming the file and the remedy when it is not whole.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(MAX_HEADER_BYTES, size - 8):
            raise _unreadable(f"{file.name} is not a whole safetensors file ({size} bytes).")
        header = stream.read(length)
    try:
        tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0)
        count: int = sum(math.prod(entry["shape"]) for entry in tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise _unreadable(f"{file.name} is no safetensors file: its header makes no sense.") from None
    if size < whole:
        raise _unreadable(f"{file.name} is cut off: {size} of {whole} bytes are there.")
    return count


def _unreadable(message: str, hint: str = "Copy or download it again.") -> UnsupportedModelError:
    return UnsupportedModelError(message, code="unreadable_model", hint=hint)
