"""What a token looks like: the exact text of one id, invisible bytes made visible.

Decoding ids one by one loses leading spaces (SentencePiece) or shows half a character as U+FFFD (byte-level BPE).
Here every id gets the text that it contributes; bytes that are no complete character are written as ``\\xNN``.
"""

from __future__ import annotations

import re
from typing import Any

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019): character to byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_ALPHABET = _byte_level_alphabet()


def _from_bytes(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


def _byte_level(piece: str) -> str:
    if all(character in _ALPHABET for character in piece):
        return _from_bytes(bytes(_ALPHABET[character] for character in piece))
    return piece


def _sentencepiece(piece: str) -> str:
    match = _BYTE_PIECE.fullmatch(piece)
    return _from_bytes(bytes([int(match[1], 16)])) if match else piece.replace("\u2581", " ")


def token_texts(tokenizer: Any, d_vocab: int) -> list[str]:
    """The text of every id from 0 to d_vocab - 1; ids the tokenizer does not know read ``[id]``."""
    pieces: list[str | None] = [None] * d_vocab
    for piece, index in tokenizer.get_vocab().items():
        if index < d_vocab:
            pieces[index] = piece
    added = {index for index in tokenizer.get_added_vocab().values()}
    known = [piece for piece in pieces if piece is not None]
    convert = _sentencepiece if any("\u2581" in piece for piece in known) else _byte_level
    return [
        f"[{index}]" if piece is None else piece if index in added else convert(piece)
        for index, piece in enumerate(pieces)
    ]
