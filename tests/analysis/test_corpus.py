"""Documents to rows: deterministic, bounded, and clear about what is wrong with a file."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import corpus
from analysis.corpus import DOCUMENTS, Prepared, ReadLimits, RowRule, RowSet, documents, prepare
from analysis.store import RunFolder
from analysis.sweep.run import start
from analysis.types import InputError, TokenFilter
from tests import tiny
from tests.analysis.test_sweep import CONFIG


class Bytes:
    """A tokenizer of bytes: one id a byte."""

    def encode(self, text: str, *, prepend_bos: bool | None = None) -> list[int]:
        return [3 + byte for byte in text.encode()]


RULE = RowRule(length=8, bos=1, token_filter=TokenFilter(first=3, last=1), excluded=frozenset({1}))


def prepared(texts: list[str], rule: RowRule, folder: Path) -> tuple[Prepared, list[list[int]]]:
    *_, last = prepare(texts, Bytes(), rule, folder)
    assert isinstance(last, Prepared)
    return last, list(RowSet.open(folder))


def test_rows_are_documents_cut_with_bos(tmp_path: Path) -> None:
    found, rows = prepared(["abcdefghij", "kl", "mnopqr"], RULE, tmp_path)
    ids = Bytes().encode
    assert rows == [[1, *ids("abcdefg")], [1, *ids("mnopqr")]]  # "hij" and "kl" have no position that is kept
    assert (found.n_documents, found.n_rows, found.kept_rows) == (3, 2, 2)
    assert RowSet.open(tmp_path).documents.tolist() == [0, 2]
    (tmp_path / DOCUMENTS).unlink()  # a folder of an earlier version
    assert RowSet.open(tmp_path).documents.tolist() == [0, 1]


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=8), st.integers(0, 5), st.integers(1, 6))
def test_a_seeded_sample_is_a_subset_in_order(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], seed: int, n: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    texts = [*texts, "long enough to give a row"]
    _, every = prepared(texts, RULE, folder / "all")
    rule = replace(RULE, n_rows=n, seed=seed)
    found, some = prepared(texts, rule, folder / "some")
    again, same = prepared(texts, rule, folder / "again")
    assert (found, some) == (again, same)
    assert len(some) == min(n, len(every))
    rest = iter(every)
    assert all(row in rest for row in some)


def test_the_hash_is_of_the_documents(tmp_path: Path) -> None:
    text = "a text that is long enough"
    one, _ = prepared([text], RULE, tmp_path / "1")
    assert prepared([text], replace(RULE, seed=9), tmp_path / "2")[0].sha256 == one.sha256
    assert prepared([text[:13], text[13:]], RULE, tmp_path / "3")[0].sha256 != one.sha256


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    def peak(n: int) -> int:
        def texts() -> Iterator[str]:
            for i in range(n):
                yield f"{i} " * 400

        tracemalloc.start()
        for _ in prepare(texts(), Bytes(), replace(RULE, length=256, n_rows=10), tmp_path / str(n)):
            pass
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    peak(2)
    grown, text = peak(800) - peak(80), 720 * 400 * 4
    assert grown < text / 4  # some tens of bytes a row, nothing of the text


# reading


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_jsonl(tmp_path: Path, suffix: str) -> None:
    lines = b'\xef\xbb\xbf{"text": "one"}\n\n"two"\r\n{"text": "  "}\n{"text": "three", "id": 3}'
    assert list(documents(write(tmp_path / f"a{suffix}", lines))) == ["one", "two", "three"]


def test_plain_text_is_read_in_pieces_that_join_to_the_whole(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {i}. " + "word " * (i % 300) for i in range(400))
    pieces = list(documents(write(tmp_path / "a.txt", text.encode())))
    assert "".join(pieces) == text
    assert len(pieces) > 10
    assert max(map(len, pieces)) <= 2 * corpus.PIECE_CHARACTERS


def test_one_line_of_ten_megabytes_is_cut_as_text_and_refused_as_jsonl(tmp_path: Path) -> None:
    line = "x" * 10_000_000
    pieces = list(documents(write(tmp_path / "a.txt", line.encode())))
    assert "".join(pieces) == line
    with pytest.raises(InputError, match="is longer than 4,000,000 characters"):
        list(documents(write(tmp_path / "a.jsonl", json.dumps({"text": line}).encode())))


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "b.txt", b"second")
    write(tmp_path / "a.jsonl", b'{"text": "first"}')
    write(tmp_path / "notes.md", b"not read")
    assert list(documents(tmp_path)) == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "Übung".encode("latin-1"), "not UTF-8"),
        ("a.txt", "text".encode("utf-16"), "not UTF-8"),
        ("a.jsonl", b'{"text": "\xff"}', "not UTF-8"),
        ("a.txt", b"PK\x03\x04\x00\x00binary", "binary"),
        ("a.jsonl", b'{"text": "a\\u0000b"}', "not text"),
        ("a.jsonl", b'{"text": "\\ud800"}', "not text"),
        ("a.jsonl", b'{"text": 3}', "Line 1 of a.jsonl has no text"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', "Line 2 of a.jsonl has no text"),
        ("a.jsonl", b"plain text", "Line 1 of a.jsonl is not JSON"),
        ("a.jsonl", b"[" * 100_000, "not JSON"),
        ("a.csv", b"a,b", "no kind of text"),
        ("a.zip", b"PK", "no kind of text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(documents(write(tmp_path / name, content)))


def test_broken_and_exploding_archives(tmp_path: Path) -> None:
    whole = gzip.compress(b"text " * 1000)
    (tmp_path / "cut.txt.gz").write_bytes(whole[:-20])
    (tmp_path / "not.txt.gz").write_bytes(b"no gzip at all")
    for name in ("cut.txt.gz", "not.txt.gz"):
        with pytest.raises(InputError, match="cannot be read"):
            list(documents(tmp_path / name))
    bomb = write(tmp_path / "bomb.txt.gz", b"0" * 50_000_000)
    assert bomb.stat().st_size < 100_000
    pieces: list[str] = []
    with pytest.raises(InputError, match="more than 1,000,000 characters"):
        pieces.extend(documents(bomb, limits=ReadLimits(total=1_000_000)))
    assert sum(map(len, pieces)) <= 1_000_000


@pytest.mark.parametrize("texts", [[], ["ab"], ["", " "]])
def test_nothing_left_after_filtering_leaves_nothing_behind(tmp_path: Path, texts: list[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError, match="Nothing is left"):
        list(start(folder, tiny.model("gpt2"), None, CONFIG, texts, "test"))
    assert not folder.path.exists()


def test_missing_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        list(documents(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="No text lies"):
        list(documents(tmp_path))


def test_the_hash_is_uniform_and_depends_on_every_key() -> None:
    keys = np.arange(20_000)
    draws = corpus.mix(1, keys) / 2.0**64
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.03
    assert len(set(corpus.mix(1, keys, keys[::-1].copy()).tolist())) == len(keys)
    assert (corpus.mix(1, keys) != corpus.mix(2, keys)).all()
