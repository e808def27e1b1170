"""Documents to rows of tokens: what a sweep runs over.

A corpus is a stream of documents (JSONL with a ``text`` key, plain text, a folder of both, either of them gzipped, or a
dataset of the Hugging Face hub). Each document is cut by itself into rows of at most ``length`` tokens, every row
with the model's BOS in front, as for the reference means; a row without a single kept position is left out. With
``n_rows`` a seeded sample of the rows is taken. The rows follow from (content hash, tokenizer, length, filter, seed)
alone.
Nothing but one document and the row offsets is held in memory: tokens go to a raw file and are read back through a
memory map.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt64
from numpy import ndarray

from analysis.apply import kept_mask
from analysis.files import atomic_file, on_disk
from analysis.types import InputError, TokenFilter

SUFFIXES = (".jsonl", ".txt", ".jsonl.gz", ".txt.gz")
PIECE_CHARACTERS = 16_384
"""A plain text file is read in pieces of about this size, cut at the ends of paragraphs."""

TOKENS, OFFSETS, DOCUMENTS = "tokens.i32", "offsets.i64", "documents.i32"


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a text may cost: characters in one line of JSONL, and in all (decompressed; None: no bound)."""

    line: int = 4_000_000
    total: int | None = None


# documents


def documents(path: Path, *, limits: ReadLimits = ReadLimits(), name: str | None = None) -> Iterator[str]:
    """The documents of a file, or of every known file below a folder in the order of their names; none is empty.

    name: what errors call the file; its own by default. InputError where a file is missing, binary, not UTF-8, not
    JSONL, truncated, or larger than ``limits``.
    """
    budget = _Budget(limits.total)
    for file in _files(path, name or path.name):
        read, called = _jsonl if ".jsonl" in file.suffixes else _pieces, name or file.name
        try:
            with _opened(file) as lines:
                for text in read(called, lines, limits, budget):
                    if text.strip():
                        yield text
        except UnicodeDecodeError as error:
            raise InputError(
                f"{called} is not UTF-8 text (byte 0x{error.object[error.start]:02x}).",
                code="bad_encoding",
                hint="Save it as UTF-8.",
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{called} cannot be read: {error}", code="bad_corpus") from None


def hub_documents(name: str, *, config: str | None = None, split: str = "train", column: str = "text") -> Iterator[str]:
    """A dataset of the Hugging Face hub, streamed. Needs the network and the `datasets` package."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError("Reading hub datasets needs the package `datasets`.", hint="pip install datasets") from None
    try:
        for record in load_dataset(name, config, split=split, streaming=True):
            if record[column]:
                yield str(record[column])
    except InputError:
        raise
    except Exception as error:  # the library raises whatever its transport, parser or builder raised
        raise InputError(
            f"The dataset {name!r} ({split}, column {column!r}) cannot be read: {type(error).__name__}: {error}"[:300],
            code="bad_corpus",
            hint="Check its name, config, split and column, and that this machine reaches the hub.",
        ) from None


def empty(name: str) -> InputError:
    """The one wording of "there is nothing to read"."""
    return InputError(f"{name} holds no text.", code="empty_corpus", hint="One document a line, or plain text.")


class _Budget:
    """How many characters may still be read; what a decompression bomb runs into."""

    def __init__(self, total: int | None) -> None:
        self.total, self.used = total, 0

    def take(self, text: str, name: str) -> str:
        self.used += len(text)
        if self.total is not None and self.used > self.total:
            raise InputError(
                f"{name} holds more than {self.total:,} characters of text.",
                code="corpus_too_large",
                hint="Send a part of it, or run the sweep from the command line.",
            )
        if "\0" in text:
            raise InputError(f"{name} is binary, not text.", code="binary_corpus", hint="Send .jsonl or .txt.")
        return text


def _files(path: Path, name: str) -> list[Path]:
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name.endswith(SUFFIXES)]
        if not found:
            raise InputError(f"No text lies in {name}.", code="empty_corpus", hint=f"Known: {', '.join(SUFFIXES)}.")
        return found
    if not path.name.endswith(SUFFIXES):
        raise InputError(
            f"{name[-60:]!r} is no kind of text known here.",
            code="bad_corpus",
            hint=f"Known: {', '.join(SUFFIXES)}.",
        )
    if not path.is_file():
        raise InputError(f"There is no file {name}.", code="no_such_corpus")
    return [path]


def _opened(file: Path) -> io.TextIOWrapper:
    raw: Any = gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # noqa: SIM115  (the wrapper closes it)
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")


def _jsonl(name: str, lines: io.TextIOWrapper, limits: ReadLimits, budget: _Budget) -> Iterator[str]:
    number = 0
    while line := budget.take(lines.readline(limits.line + 1), name):
        number += 1
        if len(line) > limits.line:
            raise InputError(
                f"Line {number} of {name} is longer than {limits.line:,} characters.",
                code="line_too_long",
                hint="Split the document, one JSON object a line.",
            )
        if line.strip():
            yield _text_of(line, f"Line {number} of {name}")


def _text_of(line: str, where: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON.", code="bad_corpus", hint='One {"text": "..."} a line.') from None
    text = record.get("text") if isinstance(record, dict) else record
    if not isinstance(text, str):
        raise InputError(f"{where} has no text.", code="bad_corpus", hint='One {"text": "..."} a line.')
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{where} holds characters that are not text.", code="binary_corpus")
    return text


def _pieces(name: str, lines: io.TextIOWrapper, limits: ReadLimits, budget: _Budget) -> Iterator[str]:
    piece: list[str] = []
    size = 0
    while line := budget.take(lines.readline(PIECE_CHARACTERS), name):
        piece.append(line)
        size += len(line)
        if size >= PIECE_CHARACTERS or (size >= PIECE_CHARACTERS // 2 and not line.strip()):
            yield "".join(piece)
            piece, size = [], 0
    yield "".join(piece)


# rows


@dataclass(frozen=True)
class RowSet:
    """The rows of a prepared corpus, read from their files through a memory map. ``row(i)`` is one row's token ids.

    documents: the number of the document that each row was cut from; rows prepared before that was written down count
    as a document each.
    """

    folder: Path
    offsets: Int64[ndarray, " rows_plus_1"]
    documents: Int64[ndarray, " rows"]

    @classmethod
    def open(cls, folder: Path) -> RowSet:
        """InputError where the files are damaged or one of them is gone."""
        file = folder / DOCUMENTS
        try:
            offsets, size = np.fromfile(folder / OFFSETS, dtype="<i8"), (folder / TOKENS).stat().st_size
            documents = np.fromfile(file, "<i4").astype(np.int64) if file.exists() else np.arange(len(offsets) - 1)
        except (OSError, ValueError):
            offsets, documents, size = np.empty(0, "<i8"), np.empty(0, np.int64), -1
        whole = len(offsets) == len(documents) + 1 and offsets[0] == 0 and size == 4 * offsets[-1]
        if not whole or (np.diff(offsets) < 0).any():
            hint = "Delete the run and start it again."
            raise InputError(f"The rows of {folder.name} are damaged.", code="damaged_run", hint=hint)
        return cls(folder, offsets, documents)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        return int(self.offsets[-1])

    def row(self, index: int) -> list[int]:
        start, stop = self.offsets[index : index + 2]
        with (self.folder / TOKENS).open("rb") as file:
            file.seek(4 * int(start))
            found: list[int] = np.frombuffer(file.read(4 * int(stop - start)), dtype="<i4").tolist()
        return found

    def share_of(self, token: int | None) -> float:
        """Of all tokens, those that are ``token``."""
        tokens = np.memmap(self.folder / TOKENS, dtype="<i4", mode="r")
        return 0.0 if token is None else float(np.count_nonzero(tokens == token)) / len(tokens)

    def __iter__(self) -> Iterator[list[int]]:
        return (self.row(index) for index in range(len(self)))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` read. n_rows: rows the documents gave; kept_rows: those taken. sha256: of the documents."""

    n_documents: int
    n_rows: int
    kept_rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RowRule:
    """How documents become rows. ``end``: an id at which a document is cut in two. ``n_rows``: a seeded sample of that
    many; None: all of them."""

    length: int
    bos: int | None
    token_filter: TokenFilter
    excluded: frozenset[int]
    end: int | None = None
    n_rows: int | None = None
    seed: int = 0
    max_documents: int | None = None


def prepare(texts: Iterable[str], model: Any, rule: RowRule, folder: Path) -> Iterator[int | Prepared]:
    """Cut documents into rows and write them below ``folder``: the number of documents read so far, last a Prepared.

    ``model`` needs only ``encode``. InputError when not one row is left; the caller removes the folder then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every, digest = folder / ".all.tmp", hashlib.sha256()
    lengths, sources = array("i"), array("i")
    n_documents = 0
    try:
        with on_disk("the rows"), every.open("wb") as file:
            for text in texts:
                _add(digest, text)
                n_documents += 1
                for row in cut(encoded(model, text, n_documents), rule):
                    file.write(np.asarray(row, dtype="<i4").tobytes())
                    lengths.append(len(row))
                    sources.append(n_documents - 1)
                yield n_documents
                if n_documents == rule.max_documents:
                    break
        chosen = choose(len(lengths), rule.n_rows, rule.seed)
        if len(chosen) == 0:
            raise InputError(
                f"Nothing is left of the {n_documents} documents after filtering.",
                code="empty_corpus",
                hint="A row needs a few tokens that the token filter keeps.",
            )
        _copy(every, folder, _offsets(np.frombuffer(lengths, dtype=np.intc)), chosen)
        with atomic_file(folder / DOCUMENTS) as out:
            out.write(np.frombuffer(sources, dtype=np.intc)[chosen].astype("<i4").tobytes())
    finally:
        every.unlink(missing_ok=True)
    yield Prepared(n_documents, len(lengths), len(chosen), digest.hexdigest())


def encoded(model: Any, text: str, number: int) -> list[int]:
    """The token ids of a document; InputError naming it by ``number`` (from 1) where the model lacks one of them."""
    try:
        ids: list[int] = model.encode(text, prepend_bos=False)
    except InputError as error:
        raise InputError(f"Document {number}: {error.message}", code=error.code, hint=error.hint) from None
    return ids


def content_sha256(texts: Iterable[str], max_documents: int | None) -> str:
    """The hash that `prepare` finds for the same documents."""
    digest = hashlib.sha256()
    for text in islice(texts, max_documents):
        _add(digest, text)
    return digest.hexdigest()


def _add(digest: Any, text: str) -> None:
    raw = text.encode()
    digest.update(len(raw).to_bytes(8, "little") + raw)


def cut(ids: list[int], rule: RowRule) -> Iterator[list[int]]:
    """The rows of one document that have a kept position."""
    bos = [] if rule.bos is None else [rule.bos]
    step = rule.length - len(bos)
    for part in _parts(ids, rule.end):
        for start in range(0, len(part), step):
            row = [*bos, *part[start : start + step]]
            if len(kept_positions(row, rule.token_filter, rule.excluded)):
                yield row


def _parts(ids: list[int], end: int | None) -> Iterator[list[int]]:
    """What lies between the ``end``s, without them."""
    start = 0
    for place in (place for place, index in enumerate(ids) if index == end):
        yield ids[start:place]
        start = place + 1
    yield ids[start:]


def kept_positions(row: list[int], token_filter: TokenFilter, excluded: Collection[int]) -> Int64[ndarray, " kept"]:
    """The positions of a row that count in averages, ascending."""
    kept: ndarray = kept_mask(token_filter, torch.tensor([row]), excluded)[0].numpy().nonzero()[0]
    return kept


def choose(n: int, wanted: int | None, seed: int) -> Int64[ndarray, " chosen"]:
    """``wanted`` of ``n`` rows in ascending order, by smallest hash of (seed, row)."""
    rows = np.arange(n, dtype=np.int64)
    if wanted is None or wanted >= n:
        return rows
    first = np.argsort(mix(seed, rows), kind="stable")[:wanted]
    return np.sort(first)


def _copy(source: Path, folder: Path, offsets: ndarray, chosen: ndarray) -> None:
    with source.open("rb") as all_rows, atomic_file(folder / TOKENS) as out:
        for row in chosen.tolist():
            all_rows.seek(4 * int(offsets[row]))
            out.write(all_rows.read(4 * int(offsets[row + 1] - offsets[row])))
    kept = _offsets(offsets[chosen + 1] - offsets[chosen])
    with atomic_file(folder / OFFSETS) as out:
        out.write(kept.astype("<i8").tobytes())


def _offsets(lengths: ndarray) -> Int64[ndarray, " rows_plus_1"]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def mix(seed: int, *keys: ndarray | np.int64) -> UInt64[ndarray, "*shape"]:
    """A hash of (seed, keys) as uniform 64-bit integers (splitmix64): random choices that depend on nothing else."""
    state = np.asarray(seed, dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        for key in (np.int64(0), *keys):
            state = _splitmix(state ^ _splitmix(np.asarray(key, dtype=np.int64).view(np.uint64)))
    return state


def _splitmix(x: Any) -> Any:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
