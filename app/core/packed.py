"""What a page in one file carries: text packed as gzip in base64, which its own script unpacks; rounded charts."""

import base64
import gzip
import json
from typing import Any

DIGITS = 6
"""Significant digits of a chart in a file: no screen shows more. The file's `#numbers` have all, where they fit."""
FEWER = (DIGITS, 4, 3)
ROOM = 400_000
"""Characters of one chart, or of the numbers, in a file that can still be sent."""


def packed(content: bytes) -> str:
    """gzip as base64: no character of it means anything to HTML."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """The same JSON value with its numbers as somebody may read them off a chart."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return {name: rounded(item, digits) for name, item in value.items()} if isinstance(value, dict) else value


def fitting(value: Any, *, whole: bool = False) -> tuple[str, int | None]:
    """A JSON value packed, with as many digits as fit into ROOM, and how many these are; None: all. The fewest where
    even they do not fit. whole: with all digits, where those fit."""
    written, digits = "", None
    for digits in (None, *FEWER) if whole else FEWER:
        known = value if digits is None else rounded(value, digits)
        written = packed(json.dumps(known, separators=(",", ":")).encode())
        if len(written) <= ROOM:
            break
    return written, digits
