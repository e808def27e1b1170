"""What a page in one file carries: text packed as gzip in base64, which its own script unpacks; rounded charts."""

import base64
import gzip
from typing import Any

DIGITS = 6
"""Significant digits of a chart in a file: no screen shows more. The file's `#numbers` have all."""


def packed(content: bytes) -> str:
    """gzip as base64: no character of it means anything to HTML."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def rounded(value: Any) -> Any:
    """The same JSON value with its numbers as somebody may read them off a chart."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {name: rounded(item) for name, item in value.items()} if isinstance(value, dict) else value
