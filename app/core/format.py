"""Numbers as people read them. The data beside them stays unrounded."""

from analysis.grammar import printed

MISSING = "–"


def num(value: float | None, digits: int = 3) -> str:
    """Three decimals where that says something, else scientific: 4.210, 0.013, 2.46e-05."""
    if value is None or value != value:
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < 10**-digits:
        return printed(value, ".2e")
    return printed(value, f".{digits}f")


def signed(value: float | None, digits: int = 3) -> str:
    """A change: always with its sign."""
    if value is None or value != value:
        return MISSING
    return ("+" if value > 0 else "") + num(value, digits)


def percent(value: float | None, digits: int = 1) -> str:
    if value is None or value != value:
        return MISSING
    return printed(100 * value, f".{digits}f") + " %"


def size(value: int | None) -> str:
    """Bytes: 5.4 MB."""
    if value is None:
        return MISSING
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
