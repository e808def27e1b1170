"""Which model, exactly."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from analysis.types import ModelId

_ORIGIN = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype"})
"""What a configuration says of where it comes from; the dtype is told apart."""


def identify(weights_sha256: str, dtype: Any, config: Any, tokenizer: Any) -> ModelId:
    """The identity of loaded weights with their transformers configuration and tokenizer."""
    kept = {name: value for name, value in config.to_dict().items() if name not in _ORIGIN}
    form = json.dumps([kept, tokenizer_sha256(tokenizer)], sort_keys=True, default=str)
    return ModelId(weights_sha256, str(dtype).removeprefix("torch."), hashlib.sha256(form.encode()).hexdigest())


def vocabulary_sha256(tokenizer: Any) -> str:
    """Of the pieces and their ids: what counts of ids mean. It outlives new versions of the tokenizer's library."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """The identity of a tokenizer: its serialised form, or its vocabulary where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
