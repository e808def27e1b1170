"""The sample corpus, models/demo/sample.jsonl: what every example, test and sweep relies on."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "models" / "demo" / "sample.jsonl"
KEYS = {"id", "kind", "title", "text", "licence"}
KINDS = {
    "narrative", "letter", "dialogue", "list", "recipe", "verse", "instructions",
    "argument", "reflection", "play", "speech", "repetition", "noise",
}  # fmt: skip
REPEATED_WORDS = 30


@pytest.fixture(scope="module")
def documents() -> list[dict[str, str]]:
    lines = SAMPLE.read_bytes().decode("utf-8", errors="strict").split("\n")
    assert lines.pop() == "", "the file ends with one newline"
    return [json.loads(line) for line in lines]


def recurs(words: Sequence[str], length: int) -> bool:
    """Whether some run of `length` words occurs twice without overlapping itself."""
    first: dict[tuple[str, ...], int] = {}
    for start in range(len(words) - length + 1):
        run = tuple(words[start : start + length])
        if start - first.setdefault(run, start) >= length:
            return True
    return False


def split_words(text: str) -> list[str]:
    """The words without the quotation marks that may stand around a passage."""
    return [word for word in re.split(r"[\s\"]+", text) if word]


def test_every_line_has_the_documented_fields(documents):
    for document in documents:
        assert set(document) == KEYS
        assert all(isinstance(value, str) and value.strip() for value in document.values())
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", document["id"])
        assert document["licence"] == "CC0-1.0"


def test_ids_titles_and_texts_are_unique(documents):
    for key in ("id", "title", "text"):
        assert len({document[key] for document in documents}) == len(documents)


def test_the_corpus_is_large_enough_and_has_every_kind(documents):
    assert len(documents) >= 60
    assert sum(len(document["text"].encode()) for document in documents) >= 45_000
    kinds = [document["kind"] for document in documents]
    assert set(kinds) == KINDS
    assert kinds.count("repetition") >= 10
    assert kinds.count("noise") >= 6


def test_documents_are_short_and_split_into_paragraphs_by_blank_lines(documents):
    for document in documents:
        text = document["text"]
        assert 350 <= len(text) <= 1_800, document["id"]
        assert text == text.strip(), document["id"]
        assert "\n\n\n" not in text, document["id"]


def test_text_is_plain_normalised_unicode(documents):
    for document in documents:
        for value in document.values():
            assert unicodedata.is_normalized("NFC", value)
            # categories C*: controls, formats, surrogates, private use, unassigned
            odd = [c for c in value if c != "\n" and unicodedata.category(c).startswith("C")]
            assert not odd, (document["id"], odd)
            assert "\N{REPLACEMENT CHARACTER}" not in value


def test_repetition_documents_really_repeat(documents):
    for document in documents:
        if document["kind"] == "repetition":
            assert recurs(split_words(document["text"]), REPEATED_WORDS), document["id"]


def test_ordinary_prose_does_not_repeat(documents):
    # The control: were `recurs` always true, or the kinds mixed up, this would fail.
    for document in documents:
        if document["kind"] not in ("repetition", "noise"):
            assert not recurs(split_words(document["text"]), REPEATED_WORDS), document["id"]
