"""One grammar: what is printed is read back, and every door accepts the same texts and refuses the others alike."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from analysis.grammar import (
    MOST_POSITIONS,
    listed,
    read_integer,
    read_number,
    read_positions,
    write_number,
    write_positions,
)
from analysis.sweep.config import SweepBaseline
from analysis.types import HeadId, InputError, NeuronId, Span
from app.cli import main
from app.core.errors import validation_message
from app.core.grammar import (
    read_baseline,
    read_dial,
    read_head,
    read_intervention,
    read_neuron,
    read_scale,
    read_turn,
)
from app.core.interventions import parse_intervention, place_of, requested, write_intervention
from app.core.request import EffectsRequest, HeadInterventionRequest, TraceRequest
from app.effects.page_request import EffectsState
from app.effects.request import HeatmapRequest
from app.induction.request import AttributionRequest
from app.prompt.request import PromptState

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
# Close to the grammar, so that many are accepted; with digits, signs and spaces of other scripts that must not be.
LETTERS = st.sampled_from("0123456789.:=@,-+eELH!_−–٣１ameanzerovlucipbs")
WRITTEN = st.from_regex(
    r"!?(L?\d{1,3}[.H]\d{1,3})(:(mean|zero|clip|value|scale|bos|x)(=[-+−\d.]{0,5})?)?(@[\d,–-]{0,6})?", fullmatch=True
)


@given(NUMBERS)
def test_a_number_is_read_back(number: float) -> None:
    assert read_number(write_number(number)) == number
    assert read_number(write_number(number).replace("-", "−")) == number


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1_000", "1e999", "0x10", "１", "٣", "1,5", "--1", "1 2", "."])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a number"):
        read_number(text)


@pytest.mark.parametrize(
    "read",
    [
        read_number, read_integer, read_positions, read_neuron, read_head, read_baseline, read_scale, read_intervention,
        read_dial, read_turn, SweepBaseline.parse,
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", " "])
def test_nothing_written_is_told_as_that_and_not_as_a_pair_of_quotation_marks(
    read: Callable[[str], Any], text: str
) -> None:
    with pytest.raises(InputError) as refused:
        read(text)
    assert "'" not in refused.value.message
    assert refused.value.message.startswith(("Nothing is written where ", "No position is named."))


POSITIONS = (
    st.none()
    | st.lists(st.integers(0, 9999), min_size=1, max_size=6).map(tuple)
    | st.builds(lambda start, more: Span(start, start + more), st.integers(0, 9999), st.integers(1, 99))
)


@given(POSITIONS)
def test_positions_are_read_back(positions: Any) -> None:
    assert read_positions(write_positions(positions)) == positions


@pytest.mark.parametrize("text", ["", ",", "3,", "-", "3-", "-3", "6-2", "a", "٣", "1.5", f"1,0-{MOST_POSITIONS}"])
def test_what_names_no_positions_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_positions(text)


def test_a_range_and_single_positions_may_be_mixed() -> None:
    assert read_positions("2,5-7") == (2, 5, 6, 7)
    assert read_positions("4–9") == Span(4, 10)  # as the pages print it


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_a_head_is_read_back_in_both_spellings(layer: int, head: int) -> None:
    assert HeadId.parse(str(HeadId(layer, head))) == HeadId.parse(f"L{layer}H{head}") == HeadId(layer, head)


@pytest.mark.parametrize("text", ["٣.٤", "3.1\n", " 3.1", "3.1 ", "3", "3.", ".1", "3.1.1", "L3H1\n", "l3h1", "L3.1"])
def test_a_name_is_ascii_digits_with_nothing_around_them(text: str) -> None:
    for read in (NeuronId.parse, HeadId.parse):
        with pytest.raises(InputError):
            read(text)


@given(st.sampled_from(["mean", "filtered_mean", "zero", "resample"]) | NUMBERS.map(write_number))
def test_a_sweeps_baseline_takes_the_same_numbers(text: str) -> None:
    assert SweepBaseline.parse(text).kind == (text if text[0].isalpha() else "value")
    for other in ("1_000", "nan", "percentile:1_0"):
        with pytest.raises(InputError, match="is not a baseline"):
            SweepBaseline.parse(other)


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["bos", "mean", "zero"]), POSITIONS)
def test_an_intervention_on_a_head_is_read_back(layer: int, head: int, mode: Any, positions: Any) -> None:
    where = {"start": positions.start, "stop": positions.stop} if isinstance(positions, Span) else positions
    item = requested(HeadInterventionRequest, head=f"{layer}.{head}", mode=mode, positions=where)
    assert parse_intervention(write_intervention(item)) == (True, item)
    assert place_of(write_intervention(item)) == place_of("!" + write_intervention(item))


def told(ask: Callable[[], Any]) -> tuple[str, str]:
    """("", what was asked, printed), or (why it is refused, "")."""
    try:
        return "", str(ask())
    except InputError as error:
        return error.message, ""
    except ValidationError as error:
        return validation_message(error.errors()), ""


class Asked(Exception):
    """A command would ask a server now."""


def typed(kind: type[BaseModel], *words: str) -> Callable[[], Any]:
    """What a command makes of its words: the request that it would send."""

    def ask() -> Any:
        sent: list[Any] = []

        def validated(body: Any) -> Any:
            sent.append(validate(body))
            return sent[0]

        validate = kind.model_validate
        with patch.object(kind, "model_validate", validated), patch("app.core.doors.command.opened", side_effect=Asked):
            said = CliRunner().invoke(main, list(words))
        if sent:
            assert isinstance(said.exception, Asked)
            return sent[0]
        assert said.exit_code == 2, said.output
        raise InputError(" ".join(said.stderr.split()))

    return ask


def same(api: Callable[[], Any], page: Callable[[], Any], command: Callable[[], Any]) -> None:
    """The three doors ask the same, or refuse with the same sentence."""
    reason, asked = told(api)
    assert told(page) == (reason, asked)
    why, sent = told(command)
    assert sent == asked
    assert " ".join(reason.split()) in why


@settings(max_examples=60, deadline=None)
@given(WRITTEN | st.text(LETTERS, min_size=1, max_size=14))
@example("!3.17:mean@2,5-7")
@example("3.17:clip=..")
@example("3.17:value=nan")
@example("3.17:value=1e7")
@example("L1H2:bos=1")
@example("3.17:zero@6-2")
def test_every_door_reads_the_same_interventions(text: str) -> None:
    body = {"text": "a b", "prepend_bos": None, "interventions": [text]}
    same(
        lambda: TraceRequest.model_validate(body).interventions,
        lambda: PromptState.read({"text": "a b", "do": text}).trace_request().interventions,
        lambda: typed(TraceRequest, "trace", "a b", f"-i{text}")().interventions,
    )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["mean", "prompt_mean", "zero", "median"]) | st.text(LETTERS, min_size=1, max_size=6))
@example("1_0")
@example("nan")
@example("2e6")
@example("−0.5")
def test_every_door_reads_the_same_baselines_and_numbers(text: str) -> None:
    body = {"text": "a b", "baseline": text}
    effects = typed(EffectsRequest, "effects", "a b", f"--baseline={text}")
    same(
        lambda: EffectsRequest.model_validate(body).baseline,
        lambda: PromptState.read(body).effects_request(None).baseline,
        lambda: effects().baseline,
    )
    same(
        lambda: HeatmapRequest.model_validate(body).baseline,
        lambda: EffectsState.model_validate(body).heatmap().baseline,
        lambda: effects().baseline,
    )
    scale = {"text": "a b", "ln_scale": text}
    same(
        lambda: TraceRequest.model_validate(scale).ln_scale,
        lambda: PromptState.read({"text": "a b", "ln": text}).trace_request().ln_scale,
        lambda: typed(TraceRequest, "trace", "a b", f"--ln-scale={text}")().ln_scale,
    )


@settings(max_examples=40, deadline=None)
@given(
    st.from_regex(r"\d{0,5}\.\d{0,8}", fullmatch=True) | st.text(st.sampled_from("0123.٣LH-"), min_size=1, max_size=6)
)
@example("003.017")
def test_every_door_reads_the_same_neurons(text: str) -> None:
    body = {"text": "a b", "neurons": [text]}
    same(
        lambda: TraceRequest.model_validate(body).neurons,
        lambda: PromptState.read({"text": "a b", "watch": text}).trace_request().neurons,
        lambda: typed(TraceRequest, "trace", "a b", f"-n{text}")().neurons,
    )
    reason, _ = told(lambda: AttributionRequest.model_validate({"neuron": text}))
    assert reason.removeprefix("neuron: ") == told(lambda: NeuronId.parse(text))[0] or "Write layer.index" in reason


def test_names_are_listed_once_however_they_are_separated() -> None:
    assert listed(" 3.17, 3.20;3.17\n1.2 ") == ["3.17", "3.20", "1.2"]
