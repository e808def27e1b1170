"""Numbers as people read them. The data beside them stays unrounded."""

MISSING = "–"


def num(value: float | None, digits: int = 3) -> str:
    """Three decimals where that says something, else scientific: 4.210, 0.013, 2.46e-05."""
    if value is None or value != value:
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < 10**-digits:
        return _minus(f"{value:.2e}")
    return _minus(f"{value:.{digits}f}")


def signed(value: float | None, digits: int = 3) -> str:
    """A change: always with its sign."""
    if value is None or value != value:
        return MISSING
    return ("+" if value > 0 else "") + num(value, digits)


def percent(value: float | None, digits: int = 1) -> str:
    if value is None or value != value:
        return MISSING
    return _minus(f"{100 * value:.{digits}f} %")


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


def _minus(text: str) -> str:
    """The sign of a number; an exponent keeps its hyphen, so that it can be copied."""
    return text.replace("-", "−", 1) if text.startswith("-") else text
