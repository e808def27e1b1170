"""Whatever a request, a form or an address holds: what is refused is told in our words, by the field's name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.core import grammar
from app.core.errors import validation_message
from app.core.request import Strict
from app.core.view import View
from app.core.wording import _SPELLINGS, spelled
from app.families import FAMILIES
from app.registry import QUESTIONS
from tests.app.words import foreign

HALF = "\ud800"  # half of a surrogate pair
DEEP: Any = [[[[[[[[1]]]]]]]]
HOSTILE: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, 1e400, -0.0, 1e300, 1.5, -1, 0, 10**40, -(10**40), 2**63, True, False, None,
    "", " ", " 1 ", "²", "٣", "1_0", "0x10", "-0", "1e400", "nan", "true", "\0", HALF, "x" * 30_000, "1." + "9" * 30,
    [], {}, [[]], [{}], [None], [True], [math.nan], [1e400], [10**40], [-1], ["\0"], [HALF], ["1.x"], [""],
    DEEP, {"a": DEEP},
    [-1] * 5000, ["?"] * 5000, {HALF: 1}, {"start": 5, "stop": 2}, {"start": -1, "stop": "x"}, {"start": math.nan},
    [{"neuron": "1.3", "mode": "none"}], [{"neuron": 5}], [{"head": 5}], [{"head": "0.1", "mode": 7}],
    [{"role": "nobody", "content": ""}], [{"neurons": [], "mode": "scale", "value": math.inf}],
)  # fmt: skip


def kinds() -> list[type[BaseModel]]:
    """Every model that something of somebody else's is read into."""
    for family in FAMILIES:
        import_module(family)

    def below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    found = {each for each in below(BaseModel) if each.__module__.startswith("app.") and not issubclass(each, View)}
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


KINDS = kinds()


def test_every_question_and_form_is_among_them() -> None:
    assert {question.request for question in QUESTIONS.values()} <= set(KINDS)
    names = {kind.__name__ for kind in KINDS}
    assert {
        "PromptState",
        "InductionState",
        "WhyState",
        "WriteState",
        "AtlasState",
        "SweepRequest",
        "Settings",
    } <= names


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__qualname__)
def test_no_value_of_any_field_is_refused_in_foreign_words(kind: type[BaseModel]) -> None:
    wrong: dict[str, str] = {}
    for name in [*(field.alias or name for name, field in kind.model_fields.items()), "unheard_of", "min_none", HALF]:
        for value in HOSTILE:
            for fault in _faults(kind, name, value):
                wrong[fault] = f"{name}={str(value)[:40]!a}"
    assert wrong == {}


def _faults(kind: type[BaseModel], name: str, value: Any) -> list[str]:
    """What is wrong with how one value of one field is refused."""
    try:
        json.dumps(kind.model_validate({name: value}).model_dump(mode="json"), allow_nan=False).encode()
    except ValidationError as error:
        message, about = validation_message(error.errors()), any(name in each["loc"] for each in error.errors())
    else:
        return []
    message.encode()
    faults = foreign(message)
    if not message.endswith(".") or len(message) > 3000:
        faults.append(f"no sentence: {message[:300]}")
    if about and " more." not in message and name.encode("utf-8", "replace").decode() not in message:
        faults.append(f"does not name its field: {message}")
    return faults


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if issubclass(kind, Strict)], ids=lambda kind: kind.__qualname__
)
def test_what_is_sent_without_end_is_refused_at_its_first_fault(kind: type[BaseModel]) -> None:
    """Requests are read on the event loop: a list of a megabyte with a fault in each item made it wait for seconds."""
    wrong: tuple[Any, ...] = (-1, "?", None, [], {})
    tries: list[dict[str, Any]] = [{name: [item] * 500} for name in kind.model_fields for item in wrong]
    counts = [_count(kind, sent) for sent in (*tries, {f"unheard_of_{number}": 1 for number in range(2000)})]
    assert max(counts) < 60  # some for each member of a union, and what is missing


def _count(kind: type[BaseModel], sent: dict[str, Any]) -> int:
    """Of errors."""
    try:
        kind.model_validate(sent)
    except ValidationError as error:
        return error.error_count()
    return 0


def test_paused_interventions_without_end_are_refused_without_reading_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(grammar, "read_intervention", read.append)
    with pytest.raises(ValidationError, match="10000"):
        QUESTIONS["trace"].request.model_validate_json(
            json.dumps({"text": "a", "interventions": ["!1.3:zero"] * 20_000})
        )
    assert read == []


def test_what_is_accepted_is_said() -> None:
    said: list[tuple[str, dict[str, Any], str]] = [
        ("effects", {"limit": 0}, "limit must be at least 1."),
        ("effects", {"limit": 10**40}, "limit must be at most 1000."),
        ("effects", {"limit": "²"}, "limit must be a whole number, such as 12."),
        ("effects", {"limit": True}, "limit: true and false are no numbers."),
        ("effects", {"order": "up"}, "order must be abs_desc, desc or asc."),
        ("effects", {"neurons": []}, "neurons must not be empty."),
        ("effects", {"neurons": 5}, "neurons must be all, or a list."),
        ("effects", {"baseline": []}, "baseline must be mean, prompt_mean or zero, or a finite number, such as 1.5."),
        ("effects", {"baseline": 1e99}, "baseline must be at most 1000000."),
        ("effects", {"prepend_bos": "maybe"}, "prepend_bos must be true or false."),
        ("effects", {"limit": 0, "position": -1}, "limit must be at least 1; position must be at least 0."),
        ("trace", {"neurons": ["1.3", []]}, "the 2nd of neurons must be a text."),
        (
            "trace",
            {"interventions": [{"neuron": "1.3", "mode": "up"}]},
            "mode in the 1st of interventions must be mean, zero, value, scale or clip.",
        ),
        ("trace", {"unheard_of": 1}, "unheard_of is not known here."),
        ("dial", {"dials": [{"neurons": "entropy", "mode": "scale"}]}, "value in the 1st of dials is missing."),
    ]
    for question, fields, sentence in said:
        with pytest.raises(ValidationError) as refused:
            QUESTIONS[question].request.model_validate({"text": "a", **fields})
        assert validation_message(refused.value.errors()) == sentence


def test_every_pattern_has_words() -> None:
    """`spelled` gives them; a pattern that is written without would be told as a regular expression."""

    def patterns(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            if isinstance(schema.get("pattern"), str):
                yield schema["pattern"]
            for value in schema.values():
                yield from patterns(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from patterns(value)

    found = {pattern for kind in KINDS for pattern in patterns(kind.model_json_schema())}
    assert found
    assert found <= _SPELLINGS.keys()
    assert spelled("^a$", "the letter a") == "^a$"
