"""What a tokenizer cannot read: the token that it writes instead, or the refusal where it would write none.

A byte-level vocabulary with all 256 bytes reads everything. Others write an unknown token for what they lack, which
transformers need not know of though the tokenizer's own model does; BPE without one leaves it out without a word, so
that a text would be measured that is not the one that was given; words without one are an error of the library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from analysis.types import InputError
from analysis.vocab import ALPHABET, part_types

MOST_UNKNOWN = 0.05
"""A larger share of unknown tokens is refused: what is measured over them is of a text that the model never saw."""


class Reader:
    """A tokenizer and what it cannot read. key: of its model, for errors."""

    def __init__(self, tokenizer: Any, key: str) -> None:
        self._tokenizer, self._key = tokenizer, key
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)

    @cached_property
    def unknown_id(self) -> int | None:
        """The token for what the tokenizer cannot read, as its own model writes it: what transformers calls so may be
        missing, or the end of text by another name. None where everything can be read, and where there is none."""
        if self._backend is None:
            found: int | None = self._tokenizer.unk_token_id
            return found
        if self._byte_level and not self._bytes_lacking:
            return None
        model = self._backend.model
        if type(model).__name__ == "Unigram":
            unknown: int | None = json.loads(self._backend.to_str())["model"].get("unk_id")
            return unknown
        written = getattr(model, "unk_token", None)
        by_name: int | None = self._backend.token_to_id(written) if written else None
        return by_name

    def ids(self, text: str) -> list[int]:
        """Token ids of ``text`` without special tokens; InputError naming what they would leave out."""
        try:
            found = self._tokenizer(
                text, add_special_tokens=False, verbose=False, return_offsets_mapping=self._leaves_out
            )
        except Exception as error:  # the library's own, of no class
            raise self._refused(self._first_word(text), f"it says: {error}") from None
        ids: list[int] = found.input_ids
        if self._leaves_out and (lost := self._lost(text, found["offset_mapping"])) is not None:
            raise self._refused(lost, "it has no token for it and would leave it out without a word")
        return ids

    def check_read(self, unknown: float, source: str, *, hint: str, what: str = "a mean over them") -> None:
        """InputError where ``unknown``, a share of the tokens of a text, is more than MOST_UNKNOWN."""
        if unknown > MOST_UNKNOWN:
            raise InputError(
                f"{unknown:.0%} of the tokens of {source} are unknown to the tokenizer of {self._key}; {what} would "
                f"say nothing (at most {MOST_UNKNOWN:.0%} may be).",
                code="unreadable_reference",
                hint=hint,
            )

    @cached_property
    def _byte_level(self) -> bool:
        form = json.loads(self._backend.to_str())
        return "ByteLevel" in part_types(form["pre_tokenizer"]) | part_types(form["normalizer"])

    @cached_property
    def _bytes_lacking(self) -> frozenset[int]:
        """The bytes that have no token of a byte-level vocabulary."""
        known = self._backend.get_vocab()
        return frozenset(byte for character, byte in ALPHABET.items() if character not in known)

    @cached_property
    def _leaves_out(self) -> bool:
        """Whether what it lacks vanishes: BPE without an unknown token, and without all bytes to fall back on."""
        model: Any = None if self._backend is None else self._backend.model
        if type(model).__name__ != "BPE" or getattr(model, "unk_token", None):
            return False
        if self._byte_level:
            return bool(self._bytes_lacking)
        vocabulary = self._backend.get_vocab()
        return not (model.byte_fallback and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)))

    def _lost(self, text: str, offsets: Sequence[tuple[int, int]]) -> str | None:
        """The first character that is in no token; what the tokenizer takes away on purpose, and spaces, aside."""
        read = bytearray(len(text))
        for start, stop in offsets:
            read[start:stop] = b"\1" * (stop - start)
        lacking = self._bytes_lacking if self._byte_level else frozenset()
        for place, character in enumerate(text):
            gone = not read[place] and not character.isspace() and self._is_kept(character)
            if gone or (lacking and not lacking.isdisjoint(character.encode())):
                return character
        return None

    def _is_kept(self, character: str) -> bool:
        """Whether it comes through normalising and splitting, so that a token should hold it."""
        normalizer, splitter = self._backend.normalizer, self._backend.pre_tokenizer
        text = character if normalizer is None else normalizer.normalize_str(character)
        return bool(text if splitter is None else splitter.pre_tokenize_str(text))

    def _first_word(self, text: str) -> str:
        """The first word that cannot be read alone; the whole text where each of them can."""
        for word in text.split():
            try:
                self._tokenizer(word, add_special_tokens=False, verbose=False)
            except Exception:
                return word
        return text

    def _refused(self, what: str, why: str) -> InputError:
        return InputError(
            f"The tokenizer of {self._key} cannot read {what[:60]!r}: {why}.",
            code="unreadable_text",
            hint="Leave it out, or serve the model with a tokenizer that can read it.",
        )
