"""A model's tokens: text to ids and back, which ids there are, and where a BOS belongs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from analysis.chat import Chat, Role
from analysis.registry import ModelSpec
from analysis.types import InputError
from analysis.unread import Reader
from analysis.vocab import known_ids, token_texts

_BEFORE = ("a", "\n", ".", "0", " ")


class Tokenized:
    """What a model knows of its tokens; it has these."""

    spec: ModelSpec
    key: str
    tokenizer: Any
    architecture: str
    d_vocab: int

    @cached_property
    def known(self) -> Int[Tensor, " n_tokens"]:
        """The ids that the tokenizer knows and the model has, ascending."""
        return torch.tensor(known_ids(self.tokenizer, self.d_vocab))

    @property
    def n_tokens(self) -> int:
        """How many ids the tokenizer knows."""
        return len(self.known)

    @cached_property
    def reader(self) -> Reader:
        """Reads texts, and knows what it cannot read."""
        return Reader(self.tokenizer, self.key)

    @property
    def bos_id(self) -> int | None:
        found: int | None = self.tokenizer.bos_token_id
        return found

    @cached_property
    def vocabulary(self) -> list[str]:
        """The text of every id, d_vocab of them."""
        return token_texts(self.tokenizer, self.d_vocab)

    @cached_property
    def excluded_ids(self) -> frozenset[int]:
        """BOS, EOS, padding, and newline in GPT models: what the paper's token filter leaves out."""
        special = {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        if self.architecture.startswith("GPT"):
            special |= self._newline
        return frozenset(index for index in special if index is not None)

    @property
    def _newline(self) -> set[int]:
        """The token of a line's end; none where it takes several, or cannot be read at all."""
        try:
            found = self.encode_within("\n")
        except InputError:
            return set()
        return set(found) if len(found) == 1 else set()

    @cached_property
    def chat(self) -> Chat:
        """The tokenizer's chat template, `known` where there is one."""
        return Chat(self.tokenizer, self.key)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Tokens that stand for no text: BOS, the ends of turns and their like."""
        added = self.tokenizer.added_tokens_decoder.items()
        return frozenset([*self.tokenizer.all_special_ids, *(index for index, token in added if token.special)])

    def roles(self, ids: Sequence[int]) -> list[Role | None]:
        """Whose turn every token belongs to, where the chat template wrote the text."""
        return self.chat.roles(self.token_texts(ids)) if self.chat.known else [None] * len(ids)

    def prepends_bos(self) -> bool:
        """Whether text gets a BOS when a request does not say: the registry's word, else the tokenizer's habit."""
        if self.bos_id is None:
            return False
        if self.spec.prepend_bos is not None:
            return self.spec.prepend_bos
        return self._puts_bos_first

    @cached_property
    def _puts_bos_first(self) -> bool:
        try:
            ids = self.tokenizer("a").input_ids
        except Exception:  # words without a token for unknown ones
            ids = self.tokenizer("").input_ids
        return bool(ids) and ids[0] == self.bos_id

    def encode(self, text: str, *, prepend_bos: bool | None = None) -> list[int]:
        """Token ids of ``text``, with at most one BOS in front. ``prepend_bos`` None: see `prepends_bos`; a text that
        the chat template wrote has the BOS that it writes, and no other."""
        ids = self.reader.ids(text)
        self._require_in_vocabulary(ids)
        if prepend_bos is None:
            prepend_bos = self.prepends_bos() and not self.chat.begins(text)
        return self.with_bos(ids, prepend_bos)

    def fitting(self, text: str, n_tokens: int, *, prepend_bos: bool | None = None) -> str:
        """A beginning of ``text`` that has at most ``n_tokens`` tokens, about as long as there is one."""

        def size(end: int) -> int:
            return len(self.encode(text[:end], prepend_bos=prepend_bos))

        end = max(bisect_right(range(len(text) + 1), n_tokens, key=size) - 1, 0)
        while end and size(end) > n_tokens:  # where a longer text has fewer tokens, the search may be off
            end -= 1
        return text[:end]

    def encode_within(self, text: str) -> list[int]:
        """Token ids of ``text`` as it stands between others: without the space that some tokenizers (SentencePiece)
        read in front of whatever they are given."""
        ids = self.encode(text, prepend_bos=False)
        if self._reads(ids, text):
            return ids
        for before in _BEFORE:  # one that does not merge with the text
            ahead, both = self.encode(before, prepend_bos=False), self.encode(before + text, prepend_bos=False)
            if both[: len(ahead)] == ahead and self._reads(both[len(ahead) :], text):
                return both[len(ahead) :]
        return ids

    def _reads(self, ids: Sequence[int], text: str) -> bool:
        found: str = "".join(self.token_texts(ids))
        return found == text

    def _require_in_vocabulary(self, ids: Sequence[int]) -> None:
        """InputError naming the word where a tokenizer has tokens that its model has not."""
        if ids and (largest := max(ids)) >= self.d_vocab:
            word = self.tokenizer.decode([largest])
            raise InputError(
                f"{word[:60]!r} is token {largest} of the tokenizer, and {self.key} has only {self.d_vocab}.",
                code="unknown_token",
                hint="The tokenizer was extended and the model was not; leave the word out, or serve the right one.",
            )

    def with_bos(self, ids: Sequence[int], prepend: bool) -> list[int]:
        """``ids`` with one BOS in front when asked for; never two."""
        if not prepend or (ids and ids[0] == self.bos_id):
            return list(ids)
        if self.bos_id is None:
            raise InputError(f"{self.key} has no BOS token.", code="no_bos", hint="Leave prepend_bos out.")
        return [self.bos_id, *ids]

    def token_texts(self, ids: Iterable[int]) -> list[str]:
        return [self.vocabulary[index] for index in ids]
