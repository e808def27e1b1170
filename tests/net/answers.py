"""Answers made comparable: provenance and times left out, long lists shortened, numbers compared with a tolerance."""

from __future__ import annotations

import math
import re
from typing import Any

TOLERANCE = 2e-5  # of a number, absolute below 1 and relative above
LONG_NUMBERS, LONG_LIST = 64, 24
# What follows from the machine, the moment or the version, not from the question.
ASIDE = frozenset(
    {"provenance", "permalink", "versions", "request_sha256", "seconds", "created", "created_at", "updated_at"}
    | {
        "finished_at",
        "eta",
        "eta_seconds",
        "wait_seconds",
        "bytes_needed",
        "memory",
        "disk",
        "device",
        "folder",
    }
    | {"manifest", "weights_sha256", "python", "python_along", "code", "tolerance"}
)
# Rounding itself: only that it is small is an answer.
SMALL = frozenset({"error", "remainder", "residual"})
NUMBER = re.compile(r"[-+−]?(?:\d+\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+)")


def comparable(answer: Any, name: str = "") -> Any:
    """The part of an answer that a change of the house must not change."""
    if isinstance(answer, dict):
        told = {key: value for key, value in answer.items() if key not in ASIDE and not _names_runs(key, value)}
        return {key: comparable(value, key) for key, value in told.items()}
    if isinstance(answer, list):
        if len(answer) > LONG_NUMBERS and all(isinstance(item, int | float) for item in answer):
            return _shortened([float(item) for item in answer])
        items = answer if len(answer) <= LONG_LIST else [*answer[:12], *answer[-2:]]
        return {"n": len(answer), "items": [comparable(item) for item in items]} if items else []
    if isinstance(answer, float):
        if name in SMALL and abs(answer) < 1e-3:
            return "small"
        return float(f"{answer:.8g}")
    return answer


def _names_runs(key: str, value: Any) -> bool:
    """Of a page, the names of what it follows: random, and none where that was finished at once."""
    return key == "runs" and isinstance(value, dict) and all(isinstance(name, str | None) for name in value.values())


def _shortened(values: list[float]) -> dict[str, Any]:
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum(value * value for value in values) / n)
    return {"n": n, "head": _eight(values[:6]), "tail": _eight(values[-3:]), **_named(mean=mean, rms=spread)}


def _eight(values: list[float]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]


def _named(**values: float) -> dict[str, float]:
    return {name: float(f"{value:.8g}") for name, value in values.items()}


def differences(then: Any, now: Any, where: str = "") -> list[str]:
    """Where two comparable answers part. A field that is new is no difference: fields may be added."""
    if isinstance(then, dict) and isinstance(now, dict):
        gone = [f"{where}.{key}: gone (was {_brief(then[key])})" for key in then if key not in now]
        both = (key for key in then if key in now)
        return gone + [line for key in both for line in differences(then[key], now[key], f"{where}.{key}")]
    if isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            return [f"{where}: {len(then)} items, now {len(now)}"]
        pairs = enumerate(zip(then, now, strict=True))
        return [line for index, (a, b) in pairs for line in differences(a, b, f"{where}[{index}]")]
    if _is_number(then) and _is_number(now):
        return [] if _close(then, now) else [f"{where}: {then}, now {now}"]
    if isinstance(then, str) and isinstance(now, str):
        return [] if _same_text(then, now) else [f"{where}: {_brief(then)}, now {_brief(now)}"]
    return [] if then == now and type(then) is type(now) else [f"{where}: {_brief(then)}, now {_brief(now)}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(then: float, now: float, tolerance: float = TOLERANCE) -> bool:
    return abs(then - now) <= tolerance * max(1.0, abs(then))


def _same_text(then: str, now: str) -> bool:
    """The same words; decimal numbers in them may part by what was printed of them (five digits). How wide a column
    is follows from its digits, so spaces count as one; the sign of what is rounding follows from the processor."""
    words = then.split(), now.split()
    return len(words[0]) == len(words[1]) and all(map(_same_word, *words))


def _same_word(then: str, now: str) -> bool:
    if then == now:
        return True
    if NUMBER.sub("#", then) != NUMBER.sub("#", now):
        return {then, now} & {"0", "-0"} != set() and all(_is_small(word) for word in (then, now))
    pairs = zip(NUMBER.findall(then), NUMBER.findall(now), strict=True)
    return all(_close(_value(a), _value(b), 2e-4) for a, b in pairs)


def _is_small(word: str) -> bool:
    """Zero, or a decimal number that is nothing but rounding."""
    return word in ("0", "-0") or (NUMBER.fullmatch(word) is not None and _close(_value(word), 0.0))


def _value(text: str) -> float:
    return float(text.replace("−", "-"))


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 90 else text[:87] + "..."
