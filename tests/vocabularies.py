"""Small tokenizers of every kind that models come with, built here: no files, no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

KINDS = ("byte_level", "sentencepiece", "word", "wordpiece", "character", "unigram")
SPECIAL = "<｜begin▁of▁sentence｜>"
"""DeepSeek's kind of name: SentencePiece's sign of a space, in a byte-level vocabulary."""

SPACES = "\u2581" * 4
"""Gemma's kind of added token: four spaces as SentencePiece writes them."""


@cache
def build(kind: str) -> Any:
    """A tokenizer of one kind: <pad>, `SPECIAL` as BOS and EOS, and for SentencePiece `SPACES`."""
    backend: Tokenizer = globals()[f"_{kind}"]()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token=SPECIAL,
        eos_token=SPECIAL,
        clean_up_tokenization_spaces=False,
    )
    if kind == "sentencepiece":
        fast.add_tokens([AddedToken(SPACES, normalized=False)])
    return fast


def _ids(pieces: Sequence[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(["<pad>", SPECIAL, "<unk>", *pieces])}


def _byte_level() -> Tokenizer:
    """One merge, so that a token of several bytes begins with a space."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab=_ids([*alphabet, "Ġt", "th"]), merges=[("Ġ", "t"), ("t", "h")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece() -> Tokenizer:
    """Llama's: a space in front of every text, bytes for what the vocabulary lacks."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = ["\u2581", *"abcdehinost,.\n", "\u2581t", "\u2581the", "he"]
    merges = [("\u2581", "t"), ("h", "e"), ("\u2581t", "he")]
    model = models.BPE(
        vocab=_ids([*fallback, *letters]), merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True
    )
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _word() -> Tokenizer:
    backend = Tokenizer(models.WordLevel(vocab=_ids(["the", "cat", "é", "Ġis", "on"]), unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return backend


def _wordpiece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(vocab=_ids(["the", "c", "##at", "é", "."]), unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _character() -> Tokenizer:
    backend = Tokenizer(models.WordLevel(vocab=_ids([*"abcdehinost ,.\néĠ☃"]), unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _unigram() -> Tokenizer:
    pieces = ["\u2581the", "\u2581", *"abcdehinost,.\né"]
    model = models.Unigram([*((piece, -9.0) for piece in _ids([])), *((p, -2.0) for p in pieces)], unk_id=2)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


# Tokenizers that lack what a text may hold, and write nothing in its place.


@cache
def without_unknown(kind: str) -> Any:
    """What `bpe` and `bytes` lack they leave out (`bytes`: some of the 256), `words` has an error of its library."""
    pieces = sorted({*pre_tokenizers.ByteLevel.alphabet()} - {"Ã", "â"}) if kind == "bytes" else [*"abcdehinost ,.\n"]
    vocabulary = {piece: index for index, piece in enumerate(["<pad>", "<s>", *pieces])}
    model = models.WordLevel(vocab=vocabulary) if kind == "words" else models.BPE(vocab=vocabulary, merges=[])
    backend = Tokenizer(model)
    if kind == "bytes":
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        backend.normalizer, backend.decoder = normalizers.Lowercase(), decoders.Fuse()
        backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="<s>")
