"""What a model folder says of itself, and which folders are refused for it. Nothing is loaded, no code of theirs runs.

A folder holds config.json, tokenizer.json and the weights: ``model.safetensors``, or the files that
``model.safetensors.index.json`` names. What it holds besides must not change the numbers without a word.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.types import UnsupportedModelError

MAX_HEADER_BYTES = 100_000_000  # the bound of the safetensors format itself

NOTE = "gguf.json"
"""In a folder that was converted from a GGUF file: which one (`analysis.dequantized`)."""

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_READ = frozenset({".safetensors", ".json", ".model", ".txt"})
_ADAPTER = ("adapter_config.json", "adapter_model")  # how the names of an adapter's files begin
_MERGE = "Merge the adapter into its base model (peft: merge_and_unload, then save_pretrained) and serve that folder."


def check(folder: Path, name: str) -> None:
    """Refuse a folder that brings code, an adapter or quantized weights. ``name``: the model's, for the sentence.

    Every door that reads a folder calls this before anything else does: UnsupportedModelError.
    """
    config = read_json(folder, "config.json", name)
    for file, content in (("config.json", config), ("tokenizer_config.json", tokenizer_config(folder, name))):
        if _holds(content, "auto_map"):
            raise UnsupportedModelError(
                f"{name} brings code of its own ('auto_map' in {file}), and code from a model folder is never run.",
                code="remote_code",
                hint="Where transformers itself has the architecture, remove 'auto_map' from the file.",
            )
    if beside := adapter_files(folder):
        raise UnsupportedModelError(
            f"{name} has an adapter beside its weights ({shortened(beside[0])}), which would be left out.",
            code="adapter",
            hint=f"{_MERGE} Or move the adapter elsewhere.",
        )
    if config.get("quantization_config"):
        raise UnsupportedModelError(
            f"{name} holds quantized weights ('quantization_config' in config.json); only plain ones are read.",
            code="quantized",
            hint="Save it dequantized, in float32, bfloat16 or float16.",
        )


def note_of(folder: Path) -> dict[str, Any] | None:
    """What a converted folder says of its GGUF file: file, sha256, quantization, bytes, mtime_ns; None for another."""
    if not (folder / NOTE).is_file():
        return None
    note = read_json(folder, NOTE, folder.name)
    return note if {"file", "sha256", "quantization", "bytes", "mtime_ns"} <= note.keys() else None


def dequantized(folder: Path) -> str | None:
    """Quantisation, name and hash of the GGUF file that a folder's weights come from; None where they are as stored."""
    note = note_of(folder)
    return None if note is None else f"{note['quantization']}, {note['file']}, sha256 {note['sha256']}"


def adapter_files(folder: Path) -> list[str]:
    """The files of an adapter (LoRA and its like) in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(_ADAPTER))


def require_more_than_an_adapter(folder: Path) -> None:
    """UnsupportedModelError for a folder that has an adapter and no model that it belongs to."""
    weights = {path.name for path in folder.glob("*.safetensors")}
    if (adapter := adapter_files(folder)) and not weights.difference(adapter):
        raise UnsupportedModelError(
            f"{folder.name} holds an adapter only, not the model that it belongs to.", code="adapter", hint=_MERGE
        )


def tokenizer_config(folder: Path, name: str) -> dict[str, Any]:
    """tokenizer_config.json, or nothing where there is none."""
    there = (folder / "tokenizer_config.json").is_file()
    return read_json(folder, "tokenizer_config.json", name) if there else {}


def ends(folder: Path, name: str) -> list[int]:
    """The tokens after which the folder says that a text is over, where transformers looks for them; none where it
    names none."""
    for file in ("generation_config.json", "config.json"):
        found = read_json(folder, file, name).get("eos_token_id") if (folder / file).is_file() else None
        if named := [token for token in (found if isinstance(found, list) else [found]) if isinstance(token, int)]:
            return named
    return []


def read_json(folder: Path, file: str, name: str) -> dict[str, Any]:
    """A JSON object from a folder; UnsupportedModelError when it is none."""
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise _unreadable(f"{file} of {name} cannot be read: {reason}.") from error
    if not isinstance(content, dict):
        raise _unreadable(f"{file} of {name} cannot be read: it is no JSON object.")
    return content


def weight_files(folder: Path, name: str) -> list[Path]:
    """The files that hold the weights; UnsupportedModelError when there are none or one is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise _unreadable(f"{name} has neither {WEIGHTS} nor {INDEX}.")
    shards = read_json(folder, INDEX, name).get("weight_map")
    named = list(shards.values()) if isinstance(shards, dict) else []
    if not named or any(not isinstance(file, str) or Path(file).name != file for file in named):
        raise _unreadable(f"{INDEX} of {name} does not name files beside it.")
    files = sorted(set(named))
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise _unreadable(f"{shortened(missing[0])}, which {INDEX} of {name} names, is missing.")
    return [folder / file for file in files]


def numbers_in(file: Path) -> int:
    """How many numbers a safetensors file holds, from its header: 8 bytes of length, then JSON of name -> dtype, shape,
    offsets.

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


def shortened(text: str, most: int = 160) -> str:
    """Text of a folder's files as it may stand in a sentence on a terminal: printable, and not long."""
    cut = text if len(text) <= most else f"{text[:most]}…"
    return "".join(character if character.isprintable() else "?" for character in cut)


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Where the files lie that a model is read from, how large they are and when they were written, by their names."""
    files = [path for path in folder.iterdir() if path.suffix in _READ and path.is_file()]
    states = {path.name: path.stat() for path in files}
    return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states.items()}


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _holds(value: Any, key: str) -> bool:
    """Whether a JSON value has ``key`` anywhere, with something in it."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as found:
                if found.get(key):
                    return True
                waiting += found.values()
            case list() as found:
                waiting += found
    return False


def _unreadable(message: str) -> UnsupportedModelError:
    return UnsupportedModelError(message, code="unreadable_model", hint="Copy or download the folder again.")
