"""A run folder: a manifest, one file a shard, and the result. Written so that a crash at any moment loses nothing
finished.

    manifest.json                    config, provenance, hashes; written once; another config is refused
    tokens.i32, offsets.i64, documents.i32   the rows (analysis.corpus)
    <stage>/00003.<sha256>.safetensors   one file a shard; its name carries the hash of its content
    result.json, ...                 the merged result, result.json last, with the hashes of the other files

Every file is written by `analysis.files`: a reader sees the whole file or none. A shard whose content does not hash to
its name (a flipped byte, a truncated file) does not exist: it is removed and computed again. Nothing is pickled; no
time stamp is stored, so equal runs are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as tensors

from analysis.files import write_bytes
from analysis.types import InputError, NotFoundError

MANIFEST, RESULT = "manifest.json", "result.json"
Arrays = dict[str, np.ndarray]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of this folder; NotFoundError when there is none, InputError when it is not JSON."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    except FileNotFoundError:
        raise NotFoundError(f"There is no {path.name} in {path.parent.name}.", code="no_such_run") from None
    except ValueError:
        raise InputError(
            f"{path.name} is damaged.", code="damaged_run", hint="Delete the run and start it again."
        ) from None


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as safetensors bytes; the same arrays always give the same bytes."""
    content: bytes = tensors.save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
    return content


def unpack(content: bytes) -> Arrays:
    found: Arrays = tensors.load(content)
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run. Its only writer is the process that coordinates the run."""

    path: Path

    # manifest

    def manifest(self) -> dict[str, Any]:
        return read_json(self.path / MANIFEST)

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, or check that the one there is the same; InputError when it is another."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / MANIFEST).exists():
            write_json(self.path / MANIFEST, manifest)
            return
        present = self.manifest()
        wanted = json.loads(json.dumps(manifest))
        if present != wanted:
            changed = sorted(key for key in present.keys() | wanted.keys() if present.get(key) != wanted.get(key))
            raise InputError(
                f"The run in {self.path.name} was started otherwise; it differs in: {', '.join(changed)}.",
                code="changed_config",
                hint="Resume it with its own configuration, or start a new run.",
            )

    def tidy(self) -> None:
        """Remove what a dead process was writing."""
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    # shards

    def put(self, stage: str, shard: int, content: bytes) -> None:
        """Store a finished shard."""
        (self.path / stage).mkdir(parents=True, exist_ok=True)
        write_bytes(self.path / stage / f"{shard:05d}.{sha256(content)}.safetensors", content)

    def get(self, stage: str, shard: int) -> Arrays | None:
        """A finished shard; None when there is none, or when what is there is damaged (and is then removed)."""
        for file in sorted((self.path / stage).glob(f"{shard:05d}.*.safetensors")):
            content = file.read_bytes()
            if sha256(content) == file.name.split(".")[1]:
                return unpack(content)
            file.unlink()
        return None

    def finished(self, stage: str, n_shards: int) -> list[int]:
        """The shards of a stage that are there and whole."""
        return [shard for shard in range(n_shards) if self.get(stage, shard) is not None]

    def count(self, stage: str) -> int:
        """How many shards are there, without reading them."""
        return sum(1 for _ in (self.path / stage).glob("[0-9]*.safetensors"))

    # result

    def finish(self, files: Mapping[str, bytes], summary: Mapping[str, Any]) -> None:
        """Write the result's files, then result.json, which makes it exist."""
        for name, content in files.items():
            write_bytes(self.path / name, content)
        hashes = {name: sha256(content) for name, content in files.items()}
        write_json(self.path / RESULT, {**summary, "files": hashes})

    def result(self) -> dict[str, Any] | None:
        """result.json when the result is there and whole; None otherwise (and what is left of it is removed)."""
        if not (self.path / RESULT).exists():
            return None
        found = read_json(self.path / RESULT)
        for name, digest in found["files"].items():
            file = self.path / name
            if not file.exists() or sha256(file.read_bytes()) != digest:
                (self.path / RESULT).unlink()
                return None
        return found

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()
