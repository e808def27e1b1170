"""A stored answer beside the one of now: are they the same numbers, and if not, what has changed."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from app.core.permalink_view import PermalinkView, ResultRow
from app.core.plain import when
from app.core.store.results import answer_of
from app.core.store.tables import Result

# Where an answer comes from, not what it says; compared separately, in words.
ORIGIN = frozenset(
    {"versions", "device", "dtype", "weights_sha256", "revision", "source", "request_sha256", "permalink"}
)
TABLE = frozenset({"effects", "effects_problem", "pinned_effects"})  # of a prompt page
ROUNDING = 1e-5  # float32 sums in another order; relative above 1, absolute below


def row(result: Result, root: str) -> ResultRow:
    return ResultRow(
        hash=result.hash,
        kind=result.kind,
        model=result.model,
        preview=result.preview,
        title=result.title,
        author=result.author,
        created=when(result.created),
        permalink=f"{root}/r/{result.hash}",
    )


def permalink(
    result: Result,
    fresh: BaseModel | None,
    reason: str,
    root: str,
    *,
    loose: frozenset[str] = frozenset(),
    **more: Any,
) -> PermalinkView:
    """`fresh` is the answer of now; None with the `reason` why there is none. loose: keys that are not compared."""
    stored = answer_of(result)
    now = None if fresh is None else fresh.model_dump(mode="json")
    facts = {
        "caption": result.caption,
        "weights_sha256": result.weights_sha256,
        "versions": result.versions,
        "request": result.request,
    }
    if now is None:
        verdict: dict[str, Any] = {
            "verdict": "cached",
            "sentence": f"Cached: these are the stored numbers. {reason}",
            "largest_difference": None,
            "differs_at": None,
            "changed": [],
        }
    else:
        verdict = compare(stored, now, loose)
    return PermalinkView(**dict(row(result, root)), **verdict, **facts, result=now or stored, **more)


def compare(stored: dict[str, Any], now: dict[str, Any], loose: frozenset[str] = frozenset()) -> dict[str, Any]:
    """verdict, sentence, largest_difference, differs_at, changed."""
    if stored.get("effects_problem") or now.get("effects_problem"):  # the baseline was not ready: a table only once
        stored, now = ({k: v for k, v in page.items() if k not in TABLE} for page in (stored, now))
    largest, where, other = 0.0, None, None
    for path, before, after in differences(stored, now, apart=ORIGIN | loose):
        if not (_is_number(before) and _is_number(after)):
            other = other or path
        elif (size := abs(after - before) / max(1.0, abs(before))) > largest:
            largest, where = size, path
    changed = list(_changed(_origin(stored), _origin(now)))
    same = other is None and largest <= ROUNDING
    note = f" Since then: {'; '.join(changed)}." if changed else ""
    if same:
        how = "the same numbers" if largest == 0 else f"the same numbers up to rounding ({largest:.1g})"
        sentence = f"Recomputed: {how}.{note}"
    else:
        by = f"{largest:.3g} at {where}" if where and largest > ROUNDING else f"its {other}"
        sentence = f"Differs by {by}.{note or ' Nothing of what is recorded here has changed.'}"
    return {
        "verdict": "recomputed" if same else "differs",
        "sentence": sentence,
        "largest_difference": largest,
        "differs_at": where if other is None else other,
        "changed": changed,
    }


def differences(
    before: Any, after: Any, path: str = "", *, apart: frozenset[str] = ORIGIN
) -> Iterator[tuple[str, Any, Any]]:
    """(path, before, after) wherever two JSON values are not equal, the keys `apart` left out.

    Keys that only `after` has are what a newer version answers besides.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() - apart:
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key, apart=apart)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}[{index}]", apart=apart)
    elif before != after:
        yield path, before, after


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _origin(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    found = answer.get("provenance") or (answer.get("trace") or {}).get("provenance") or {}
    return found if isinstance(found, dict) else {}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """In words, what an answer's origin says differently."""
    if before.get("weights_sha256") != after.get("weights_sha256"):
        yield f"other weights ({before.get('weights_sha256', '')[:8]} then, {after.get('weights_sha256', '')[:8]} now)"
    for key in ("dtype", "device"):
        if before.get(key) != after.get(key):
            yield f"{key} {before.get(key)} then, {after.get(key)} now"
    old, new = before.get("versions") or {}, after.get("versions") or {}
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name)} then, {new.get(name)} now"
