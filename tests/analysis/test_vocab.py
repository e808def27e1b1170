"""The texts of tokens add up to the text, for every kind of tokenizer, and no stand-in of a vocabulary is left."""

from __future__ import annotations

import re

import pytest

from analysis.vocab import token_texts
from tests import vocabularies
from tests.vocabularies import SPACES, SPECIAL

JOINED = {
    "byte_level": ("the cat is\n  on é☃", "the cat is\n  on é☃"),
    "sentencepiece": ("the cat is\n  on", " the cat is\n  on"),
    "word": ("the é Ġis", "theéĠis"),
    "wordpiece": ("the cat é.", " the cat é."),
    "character": ("the é Ġ☃\n", "the é Ġ☃\n"),
    "unigram": ("the cat é", " the cat é"),
}
"""kind -> (text, the texts of its tokens joined). SentencePiece reads a space in front of every text, WordPiece between
words; of words the vocabulary holds no space."""


def _characters(text: str) -> str:
    """Bytes that are written out put together again."""
    runs = re.compile(r"(?:\\x[0-9a-f]{2})+")
    return runs.sub(lambda run: bytes.fromhex(run[0].replace("\\x", "")).decode(), text)


@pytest.mark.parametrize("kind", vocabularies.KINDS)
def test_texts_of_tokens_add_up_to_the_text(kind):
    tokenizer = vocabularies.build(kind)
    text, joined = JOINED[kind]
    texts = token_texts(tokenizer, len(tokenizer) + 1)
    pieces = [texts[index] for index in tokenizer(text, add_special_tokens=False).input_ids]
    assert _characters("".join(pieces)) == joined
    assert texts[-1] == f"[{len(tokenizer)}]"


@pytest.mark.parametrize("kind", vocabularies.KINDS)
def test_a_special_token_reads_as_it_is_written(kind):
    tokenizer = vocabularies.build(kind)
    assert token_texts(tokenizer, len(tokenizer))[tokenizer.bos_token_id] == SPECIAL


def test_added_tokens_of_spaces_are_spaces():
    tokenizer = vocabularies.build("sentencepiece")
    texts = token_texts(tokenizer, len(tokenizer))
    assert texts[tokenizer.convert_tokens_to_ids(SPACES)] == "    "


def test_half_a_character_is_written_as_bytes():
    for kind in ("byte_level", "sentencepiece"):
        tokenizer = vocabularies.build(kind)
        texts = token_texts(tokenizer, len(tokenizer))
        pieces = [texts[index] for index in tokenizer("☃", add_special_tokens=False).input_ids]
        assert "".join(pieces).strip() == r"\xe2\x98\x83"
