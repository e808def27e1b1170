"""GGUF files: converted once to a model folder beside them, in float32, that is then read like any other.

The folder says what it was made from (`analysis.folder.NOTE`), and every number that is computed with it does too:
weights of four bits, dequantised, are close to the original's and not equal to them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from analysis import folder as folders
from analysis import loading
from analysis.files import disk_full, on_disk, write_bytes
from analysis.types import InputError, UnsupportedModelError

_PLAIN = frozenset({"F64", "F32", "F16", "BF16"})
_STANDARD = ("blk.", "token_embd", "output", "position_embd")  # how the names of a model's own tensors begin


def place(file: Path) -> Path:
    """The folder that a GGUF file is converted to."""
    return file.with_name(f"{file.name}.dequantized")


def converted(file: Path, sha256: str | None = None) -> Path | None:
    """The folder of a file that was converted already and is the same now (its hash, where that is given)."""
    folder = place(file)
    note = folders.note_of(folder)
    if note is None:
        return None
    if sha256 is not None:
        return folder if note["sha256"] == sha256 else None
    state = file.stat()
    if (note["bytes"], note["mtime_ns"]) != (state.st_size, state.st_mtime_ns):
        return folder if folders.hash_files([file]) == note["sha256"] else None
    return folder


def convert(file: Path, name: str, sha256: str | None = None) -> Path:
    """The folder of a GGUF file, made where it is not there. It appears whole or not at all.

    sha256: what the file's hash must be. UnsupportedModelError naming ``name`` for a file that cannot be read whole;
    InputError where the hash is another one or the folder cannot be written; DiskFullError without room.
    """
    if (folder := converted(file, sha256)) is not None:
        return folder
    state, digest = file.stat(), folders.hash_files([file])
    if sha256 is not None and digest != sha256:
        raise InputError(
            f"{file.name} of {name} has the SHA-256 {digest[:16]}…, recorded is {sha256[:16]}….",
            code="other_file",
            hint="It is not the file that this name stands for; delete it and get it again.",
        )
    if find_spec("gguf") is None:
        raise UnsupportedModelError(
            "Reading GGUF files needs the package `gguf`.", code="no_gguf", hint="pip install 'nullscope[gguf]'"
        )
    with loading.explained(f"{name} cannot be read as GGUF", file, name, hint="Get the file again."):
        numbers, quantization, others = _contents(file)
    if shutil.disk_usage(file.parent).free < 4 * numbers:
        raise disk_full(f"{name} in float32 ({4 * numbers / 1e9:.1f} GB)")
    model, tokenizer = loading.from_gguf(file, name)
    _require_all(name, model, numbers, others)
    note = {
        "file": file.name,
        "sha256": digest,
        "quantization": quantization,
        "bytes": state.st_size,
        "mtime_ns": state.st_mtime_ns,
    }
    return _write(place(file), model, tokenizer, note, name)


def _contents(file: Path) -> tuple[int, str, list[str]]:
    """(numbers in all tensors, how most of them are quantized first, names of tensors that no model has by itself)."""
    from gguf import GGUFReader

    tensors = GGUFReader(file).tensors
    types: Counter[str] = Counter()
    for tensor in tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    kinds = [kind for kind, _ in types.most_common()]
    packed = [kind for kind in kinds if kind not in _PLAIN]
    others = [tensor.name for tensor in tensors if not tensor.name.startswith(_STANDARD)]
    return sum(types.values()), ", ".join(packed or kinds), others


def _require_all(name: str, model: Any, numbers: int, others: list[str]) -> None:
    """transformers passes over tensors that it has no place for: fewer numbers are in the model than in the file."""
    there = sum(parameter.numel() for parameter in model.parameters())  # tied ones once, as in the file
    if there != numbers:
        which = f" ({', '.join(map(folders.shortened, others[:3]))})" if others else ""
        raise UnsupportedModelError(
            f"{name} holds {numbers:,} numbers, and {there:,} went into the model; some are left over{which}.",
            code="weights_incomplete",
            hint="transformers does not read all of this file; serve the model in Hugging Face format.",
        )


def _write(folder: Path, model: Any, tokenizer: Any, note: dict[str, Any], name: str) -> Path:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with on_disk(name):
            temporary.mkdir()
            config = model.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            config.architectures = [type(model).__name__]
            config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            save_file(_own(model), temporary / folders.WEIGHTS, metadata={"format": "pt"})
            write_bytes(temporary / folders.NOTE, json.dumps(note, indent=1).encode())
            shutil.rmtree(folder, ignore_errors=True)  # of another file under the same name
            temporary.replace(folder)
    except PermissionError as error:
        raise InputError(
            f"{name} is converted once, and nothing can be written to the folder it lies in.",
            code="not_writable",
            hint="Copy the file to a folder of your own.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _own(model: Any) -> dict[str, torch.Tensor]:
    """Every parameter and persistent buffer once: a tied one under its first name."""
    seen: dict[int, str] = {}
    found = {}
    for key, tensor in model.state_dict().items():
        if seen.setdefault(tensor.data_ptr(), key) == key:
            found[key] = tensor.contiguous()
    return found
