"""Files that are there whole or not at all; a full disk is one error, whoever writes, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from analysis import atlas, corpus, files, reference
from analysis.corpus import RowRule
from analysis.files import atomic_file, is_full, on_disk, replaced, write_bytes
from analysis.model import Model
from analysis.reference import ReferenceMeans
from analysis.store import RunFolder
from analysis.types import DiskFullError, TokenFilter
from tests import tiny
from tests.full_disk import fill


def means() -> ReferenceMeans:
    return ReferenceMeans(torch.zeros(2, 3), "text", 10, "0" * 64)


def made(model: Model) -> atlas.Atlas:
    *_, last = atlas.compute(model, None)
    assert last.result is not None
    return last.result


def prepare(folder: Path) -> None:
    rule = RowRule(length=12, bos=1, token_filter=TokenFilter(), excluded=frozenset())
    model = type("Encoder", (), {"encode": lambda self, text, prepend_bos: tiny.tokenizer()(text).input_ids})()
    list(corpus.prepare(["A text that is long enough for a row."], model, rule, folder))


WRITERS: dict[str, Callable[[Path, Model], Any]] = {
    "bytes": lambda folder, _: write_bytes(folder / "file", b"content"),
    "a manifest": lambda folder, _: RunFolder(folder).create({"config": 1}),
    "a shard": lambda folder, _: RunFolder(folder).put("effects", 3, b"shard"),
    "a result": lambda folder, _: RunFolder(folder).finish({"arrays.safetensors": b"x"}, {"n": 1}),
    "rows": lambda folder, _: prepare(folder),
    "reference means": lambda folder, _: reference.save(means(), folder / "means.safetensors"),
    "an atlas": lambda folder, model: atlas.save(made(model), folder / "atlas.safetensors"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_error_and_leaves_no_half_file(
    name: str, tmp_path: Path, tiny_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    with monkeypatch.context() as patch:
        fill(patch)
        with pytest.raises(DiskFullError, match=r"The disk is full: .* could not be written"):
            WRITERS[name](tmp_path, model)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    WRITERS[name](tmp_path, model)  # once there is room
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_what_was_there_stays_when_its_successor_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "file", b"before")
    fill(monkeypatch)
    with pytest.raises(DiskFullError):
        write_bytes(tmp_path / "file", b"after")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"before"}


def half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyError


def half_by_name(path: Path) -> None:
    with replaced(path) as name:
        name.write_bytes(b"half")
        raise KeyError


@pytest.mark.parametrize("write", [half, half_by_name])
def test_an_error_of_the_block_leaves_nothing_and_stays_what_it_is(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    with pytest.raises(KeyError):
        write(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (SafetensorError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }'), True),
        (SafetensorError("Error while deserializing header"), False),
        (ValueError("no"), False),
    ],
)
def test_in_whatever_words_the_disk_says_that_it_is_full(error: Exception, full: bool) -> None:
    assert is_full(error) is full
    with pytest.raises(DiskFullError if full else type(error)), on_disk("it"):
        raise error


def test_a_generator_that_is_left_is_no_full_disk(tmp_path: Path) -> None:
    def writing() -> Iterator[int]:
        with on_disk("it"), (tmp_path / "file").open("wb") as file:
            for n in range(3):
                file.write(np.int8(n).tobytes())
                yield n

    steps = writing()
    next(steps)
    steps.close()  # type: ignore[attr-defined]


def test_two_threads_write_under_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replaced(tmp_path / "file") as one:
        monkeypatch.setattr(files.threading, "get_ident", lambda: 7)
        with replaced(tmp_path / "file") as other:
            assert one != other
            other.write_bytes(b"other")
        one.write_bytes(b"one")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]
