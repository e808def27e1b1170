"""What a token looks like: the exact text of one id, invisible bytes made visible.

Decoding ids one by one loses leading spaces (SentencePiece) or shows half a character as U+FFFD (byte-level BPE).
Here every id gets the text that it contributes inside a text, by the tokenizer's own decoder; bytes that are no
complete character are written as ``\\xNN``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_BESIDE = "a"  # stands on both sides of a piece: what a decoder does to the ends of a text is not the piece's


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019): character to byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


ALPHABET = _byte_level_alphabet()
"""The printable stand-in of every byte in a byte-level vocabulary."""


def _from_bytes(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


def _byte_level(piece: str) -> str:
    if all(character in ALPHABET for character in piece):
        return _from_bytes(bytes(ALPHABET[character] for character in piece))
    return piece


def _inside(decode: Callable[[list[str]], str], piece: str) -> str:
    """What a piece adds to a text between two others; itself where that cannot be told."""
    after = decode([_BESIDE, _BESIDE]).removeprefix(_BESIDE)
    whole = decode([_BESIDE, piece, _BESIDE])
    if not (after and whole.startswith(_BESIDE) and whole.endswith(after) and len(whole) >= len(_BESIDE + after)):
        return piece
    return whole[len(_BESIDE) : len(whole) - len(after)]


def part_types(part: Any) -> set[str]:
    """The types of a part of a tokenizer, as its JSON has it, and of the parts it is made of."""
    if not isinstance(part, dict):
        return set()
    parts = [*part.get("decoders", ()), *part.get("pretokenizers", ()), *part.get("normalizers", ())]
    return {str(part.get("type")), *(name for inner in parts for name in part_types(inner))}


def _reader(tokenizer: Any) -> tuple[Callable[[str], str], bool]:
    """(piece -> text, whether added tokens are read by it too).

    Those of a byte-level vocabulary stand for the very characters that they are written with.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # no parts to look at: SentencePiece's own library, or words
        return lambda piece: piece.replace("\u2581", " "), True
    form = json.loads(backend.to_str())
    decoder = form["decoder"]
    types = part_types(decoder) if decoder else part_types(form["pre_tokenizer"]) | part_types(form["normalizer"])
    if "ByteLevel" in types:
        return _byte_level, False
    if not decoder:
        return (lambda piece: piece.replace("\u2581", " ")) if "Metaspace" in types else str, True
    decode = backend.decoder.decode

    def read(piece: str) -> str:
        match = _BYTE_PIECE.fullmatch(piece) if "ByteFallback" in types else None
        return _from_bytes(bytes([int(match[1], 16)])) if match else _inside(decode, piece)

    return read, True


def known_ids(tokenizer: Any, d_vocab: int) -> list[int]:
    """The ids below d_vocab that a token of the tokenizer has, ascending; there may be holes between them."""
    return sorted({index for index in tokenizer.get_vocab().values() if index < d_vocab})


def token_texts(tokenizer: Any, d_vocab: int) -> list[str]:
    """The text of every id from 0 to d_vocab - 1; ids the tokenizer does not know read ``[id]``."""
    read, reads_added = _reader(tokenizer)
    texts = [f"[{index}]" for index in range(d_vocab)]
    added = tokenizer.added_tokens_decoder
    for piece, index in tokenizer.get_vocab().items():
        if index < d_vocab:
            verbatim = index in added and (added[index].special or not reads_added)
            texts[index] = piece if verbatim else read(piece)
    return texts
