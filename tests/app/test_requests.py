"""Whatever the request models accept is well formed; whatever is not well formed they refuse with a reason."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from app.atlas.request import AtlasState, NeuronsQuery
from app.core.canonical import canonical_request, content_hash
from app.core.request import (
    EFFECT_COLUMNS,
    EffectsRequest,
    InterventionRequest,
    PromptRequest,
    TableRequest,
    TraceRequest,
)
from app.sweep.request import SweepQuery

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(
    [*EffectsRequest.model_fields, *TraceRequest.model_fields, "min_activation", "max_x", "nonsense"]
)
bodies = st.dictionaries(keys, json_values, max_size=6)


@given(bodies, st.sampled_from([TraceRequest, EffectsRequest, PromptRequest, InterventionRequest]))
def test_any_json_is_accepted_or_refused_never_a_crash(body: dict[str, Any], kind: type[BaseModel]) -> None:
    try:
        accepted = kind.model_validate(body)
    except ValidationError:
        return
    assert kind.model_validate(accepted.model_dump()) == accepted
    json.dumps(accepted.model_dump(mode="json"), allow_nan=False)


@given(st.text(min_size=1), st.lists(st.integers(0, 10), min_size=1), st.sampled_from([True, False, None]))
def test_a_prompt_is_text_or_ids_and_not_both(text: str, ids: list[int], bos: bool | None) -> None:
    assert PromptRequest(text=text, prepend_bos=bos).text == text
    assert PromptRequest(token_ids=ids).token_ids == ids
    for both in ({"text": text, "token_ids": ids}, {}, {"text": ""}, {"token_ids": []}, {"text": "", "token_ids": ids}):
        with pytest.raises(ValidationError):
            PromptRequest(**both)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "value"},
        {"mode": "scale"},
        {"mode": "clip"},
        {"mode": "zero", "value": 1},
        {"mode": "value", "value": 1, "min": 0},
        {"mode": "clip", "min": 2, "max": 1},
        {"mode": "value", "value": math.nan},
        {"mode": "value", "value": math.inf},
        {"positions": []},
        {"positions": [-1]},
        {"positions": {"start": 3, "stop": 3}},
        {"neuron": "3"},
        {"neuron": "3.-1"},
        {"neuron": "3.1\n"},
        {"unknown": 1},
    ],
)
def test_an_intervention_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InterventionRequest.model_validate({"neuron": "3.1", "mode": "zero", **change})


@given(st.sampled_from(EFFECT_COLUMNS), st.floats(allow_nan=False, allow_infinity=False))
def test_every_column_can_be_a_bound_and_a_sort_key(column: str, value: float) -> None:
    request = EffectsRequest.model_validate(
        {"text": "a", f"min_{column}": value, f"max_{column}": value, "sort": column}
    )
    assert request.bounds == {f"min_{column}": value, f"max_{column}": value}


@pytest.mark.parametrize(
    "change",
    [
        {"min_nope": 1},
        {"nope": 1},
        {"min_activation": math.nan},
        {"min_activation": "x"},
        {"sort": "nope"},
        {"limit": 0},
        {"limit": 1001},
        {"baseline": "median"},
        {"baseline": math.inf},
        {"neurons": []},
    ],
)
def test_effects_refuse_what_they_do_not_know(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EffectsRequest.model_validate({"text": "a", **change})


def identity(request: BaseModel, ids: list[int], key: str = "m", weights: str = "w") -> str:
    return content_hash(canonical_request("effects", key, weights, ids, request))


@pytest.mark.parametrize("table", [EffectsRequest, NeuronsQuery, AtlasState, SweepQuery])
@pytest.mark.parametrize("value", ["yes", 1, None, ["3.62"], {"a": 1}])
@pytest.mark.parametrize(
    ("key", "said"), [("interventions", "unknown key 'interventions'"), ("min_sense", "no column 'sense' to filter by")]
)
def test_a_key_that_there_is_not_is_refused_as_that_whatever_its_value(
    table: type[TableRequest], value: Any, key: str, said: str
) -> None:
    """It was told that its value is no number."""
    with pytest.raises(ValidationError) as refused:
        table.model_validate({**({"text": "a"} if table is EffectsRequest else {}), key: value})
    assert [said in error["msg"] for error in refused.value.errors()] == [True]


def test_one_hash_for_one_question_however_it_is_asked() -> None:
    as_text = EffectsRequest(text="hello", prepend_bos=True)
    as_ids = EffectsRequest(token_ids=[1, 5, 6], sort="d_entropy.total")
    assert identity(as_text, [1, 5, 6]) == identity(as_ids, [1, 5, 6])
    assert identity(as_text, [1, 5, 6]) != identity(as_text, [1, 5, 7])
    assert identity(as_text, [1], weights="other") != identity(as_text, [1])
    assert identity(as_text, [1], key="other") != identity(as_text, [1])
    assert identity(EffectsRequest(text="a", baseline=0.5), [1]) != identity(EffectsRequest(text="a"), [1])
    bounded = EffectsRequest.model_validate({"text": "a", "min_activation": 1})
    assert identity(bounded, [1]) != identity(EffectsRequest(text="a"), [1])
