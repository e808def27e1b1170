"""Tensors to JSON numbers: unrounded, null where undefined (never NaN or infinity). Stored times to dates."""

import math
from datetime import UTC, datetime
from typing import Any


def number(value: Any) -> float | None:
    """A scalar (tensor or number) as float; None for NaN and infinity."""
    found = float(value)
    return found if math.isfinite(found) else None


def series(values: Any) -> list[float | None]:
    """A one-dimensional tensor as a list."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def ranks(values: Any) -> list[int | None]:
    """Integer ranks; None where negative, which is how the numerics write "there is no next token"."""
    return [value if value >= 0 else None for value in values.tolist()]


def when(seconds: float) -> datetime:
    """A stored time, seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
