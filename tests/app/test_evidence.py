"""Which sweep speaks for the atlas: the largest that fits, or the one that a person chooses; and what it may say."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from analysis.evidence import evidence_of
from analysis.store import RESULT
from analysis.sweep import Result
from analysis.types import NeuronId, NotFoundError
from app.cli import main
from app.core.errors import ConflictError
from app.core.evidence import StoredSweep, speaker
from tests.app.test_sweep_api import SMALL, data_dir, finished, started

API = "/api/v1/models/tiny-gpt2"
ROWS = 6  # of 24 tokens in the sample text
OURS, OTHER = "a" * 64, "b" * 64
WHOLE = StoredSweep("whole", OURS, "float32", "mean", True, 126, 18705, "sample", 0.0, "1")
FOUR_ROWS = replace(WHOLE, id="four", rows=4, tokens=600, created=9.0, digest="2")


def test_a_small_sweep_does_not_replace_a_large_one() -> None:
    assert speaker([FOUR_ROWS, WHOLE], OURS, "float32", None) == WHOLE
    assert speaker([FOUR_ROWS], OURS, "float32", None) == FOUR_ROWS
    larger = replace(WHOLE, id="larger", rows=500, tokens=70_000, created=10.0)
    assert speaker([WHOLE, larger, FOUR_ROWS], OURS, "float32", None) == larger


def test_size_is_what_was_averaged_over_and_a_repetition_changes_nothing() -> None:
    many_short_rows = replace(WHOLE, id="short", rows=2000, tokens=2000, created=1.0)
    again = replace(WHOLE, id="again", created=5.0)
    assert speaker([many_short_rows, again, WHOLE], OURS, "float32", None) == WHOLE


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": OTHER},
        {"whole": False},
        {"baseline": "zero"},
        {"baseline": "resample"},
        {"baseline": "percentile:90"},
        {"dtype": "bfloat16"},
    ],
)
def test_what_does_not_fit_does_not_speak_however_large(changes: dict[str, Any]) -> None:
    huge = replace(WHOLE, id="huge", rows=10_000, tokens=10**7, **changes)
    assert speaker([huge, FOUR_ROWS], OURS, "float32", None) == FOUR_ROWS
    assert speaker([huge], OURS, "float32", None) is None


def test_precision_is_of_a_class() -> None:
    half, double = replace(WHOLE, dtype="bfloat16"), replace(WHOLE, dtype="float64")
    assert speaker([half], OURS, "bfloat16", None) == half
    assert speaker([double], OURS, "float32", None) == double


def test_a_person_may_choose_another() -> None:
    zero = replace(FOUR_ROWS, id="zero", baseline="zero")
    assert speaker([WHOLE, FOUR_ROWS], OURS, "float32", "four") == FOUR_ROWS
    assert speaker([WHOLE, zero], OURS, "float32", "zero") == zero
    assert speaker([WHOLE], OURS, "float32", "none") is None
    for wrong in (replace(FOUR_ROWS, weights_sha256=OTHER), replace(FOUR_ROWS, whole=False)):
        with pytest.raises(ConflictError, match="cannot speak") as refused:
            speaker([WHOLE, wrong], OURS, "float32", "four")
        assert refused.value.hint == "Those that can: whole."
    with pytest.raises(NotFoundError):
        speaker([WHOLE], OURS, "float32", "four")


def result(**table: list[float]) -> Result:
    """Two neurons with a table and nothing else."""
    none = np.zeros((0, 2))
    columns = {name: np.array(values) for name, values in table.items()}
    neurons = (NeuronId(1, 0), NeuronId(1, 1))
    return Result(neurons, ("total",), columns, {}, 1, 10, none, none, none, none, none, none, none)


@pytest.mark.parametrize(("column", "name"), [
    ("ln_fraction", "ln_mediated_fraction"),
    ("frequency_fraction", "frequency_mediated_fraction"),
])  # fmt: skip
def test_an_unreliable_fraction_is_no_evidence(column: str, name: str) -> None:
    table: dict[str, list[Any]] = {
        column: [0.9, 0.8],
        f"{column}.low": [-3.0, 0.7],
        f"{column}.high": [4.0, 0.9],
        f"{column}.reliable": [False, True],
        "total.abs_loss": [1e-9, 0.1],
    }
    found = evidence_of(result(**table))
    assert (getattr(found["1.0"], name), getattr(found["1.1"], name)) == (None, 0.8)
    assert found["1.0"].te == 1e-9
    assert name not in found["1.0"].intervals
    assert found["1.1"].intervals[name] == (0.7, 0.9)


def test_what_is_not_a_number_is_no_evidence() -> None:
    found = evidence_of(result(**{"total.abs_entropy": [float("nan"), 0.1], "total.abs_loss": [0.2, float("nan")]}))
    assert [(found[name].mean_abs_d_entropy, found[name].te) for name in ("1.0", "1.1")] == [(None, 0.2), (0.1, None)]


# in the server


@pytest.fixture(scope="module")
def sweeps(client: TestClient) -> dict[str, dict[str, Any]]:
    """The whole sample; then a smaller sweep, one with another baseline, one of two neurons: each newer."""
    whole = {**SMALL, "rows": None}
    bodies = {
        "whole": whole,
        "small": {**SMALL, "rows": 1, "name": "A <small> one"},
        "zero": {**whole, "baseline": "zero", "length": 40},
        "two": {**whole, "neurons": ["1.3", "1.5"]},
    }
    return {name: finished(client, started(client, **body)) for name, body in bodies.items()}


def table(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get(f"{API}/neurons", params={"layer": 1, "limit": 100, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def effects(view: dict[str, Any]) -> dict[str, float]:
    """Neuron -> mean abs dH, of the atlas or of a sweep."""
    if "evidence" in view:
        return {row["neuron"]: row["sweep"]["mean_abs_d_entropy"] for row in view["rows"] if row["sweep"]}
    return {row["neuron"]: row["total"]["abs_entropy"] for row in view["rows"]}


def test_the_largest_speaks_though_newer_ones_have_finished(
    client: TestClient, sweeps: dict[str, dict[str, Any]]
) -> None:
    found = table(client)
    told = found["evidence"]
    assert (told["sweep"]["id"], told["sweep"]["rows"], told["chosen"]) == (sweeps["whole"]["id"], ROWS, False)
    assert told["sweep"]["tokens"] == sweeps["whole"]["n_tokens"]
    assert effects(found) == effects(sweeps["whole"])
    assert {each["id"]: each["fits"] for each in told["choices"]} == {
        sweeps["whole"]["id"]: True,
        sweeps["small"]["id"]: True,
        sweeps["zero"]["id"]: False,
    }
    one = client.get(f"{API}/neurons/1.3").json()
    assert one["evidence"] == told
    assert one["weights"]["sweep"]["mean_abs_d_entropy"] == effects(sweeps["whole"])["1.3"]


@pytest.mark.parametrize("name", ["small", "zero"])
def test_a_person_chooses_another_for_this_address_only(
    client: TestClient, sweeps: dict[str, dict[str, Any]], name: str
) -> None:
    chosen = sweeps[name]["id"]
    found = table(client, sweep=chosen)
    assert (found["evidence"]["sweep"]["id"], found["evidence"]["chosen"]) == (chosen, True)
    assert effects(found) == effects(sweeps[name])
    one = client.get(f"{API}/neurons/1.3", params={"sweep": chosen}).json()
    assert one["weights"]["sweep"]["mean_abs_d_entropy"] == effects(sweeps[name])["1.3"]
    assert effects(table(client)) == effects(sweeps["whole"])


def test_none_leaves_the_weights_alone(client: TestClient, sweeps: dict[str, dict[str, Any]]) -> None:
    found = table(client, sweep="none")
    assert found["evidence"]["sweep"] is None
    assert effects(found) == {}
    assert {label["basis"] for row in found["rows"] for label in row["labels"]} == {"weights only"}
    assert {row["labels"][0]["basis"] for row in table(client)["rows"]} == {"weights and sweep"}


def test_one_that_cannot_speak_is_refused_with_those_that_can(
    client: TestClient, sweeps: dict[str, dict[str, Any]]
) -> None:
    for wanted, status, code in ((sweeps["two"]["id"], 409, "sweep_does_not_fit"), ("gone", 404, "no_such_sweep")):
        for path in (f"{API}/neurons", f"{API}/neurons/1.3", "/atlas?format=json", "/m/tiny-gpt2/n/1.3?format=json"):
            answer = client.get(path, params={"sweep": wanted, **({"format": "json"} if "format" in path else {})})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path
            assert sweeps["whole"]["id"] in answer.json()["error"]["hint"]
    assert client.get(f"{API}/neurons", params={"sweep": "../x"}).status_code == 422


def read(page: str) -> str:
    """What a person reads of a page: no tags, no scripts, and no code to copy."""
    page = re.sub(r"<(script|pre|template)\b.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_a_sweep_is_named_by_its_name_wherever_it_is_named(
    client: TestClient, sweeps: dict[str, dict[str, Any]]
) -> None:
    """Its id stands in its own heading and in the list of sweeps, for the shell; elsewhere only where two have one
    name."""
    small, zero = sweeps["small"], sweeps["zero"]
    home = f"/sweeps/{small['id']}"
    for path in (
        "/atlas",
        "/m/tiny-gpt2/n/1.3",
        *(f"{home}/{part}" for part in ("figures", "figures/1", "neurons/1.3", "calibration")),
        f"/sweeps/compare?a={small['id']}&b={zero['id']}",
    ):
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        assert "A <small> one" in read(answer.text), path
        assert not [each["id"] for each in sweeps.values() if each["id"] in read(answer.text)], path


@pytest.mark.parametrize("path", ["/atlas", "/m/tiny-gpt2/n/1.3"])
def test_the_pages_name_it_and_keep_the_choice(
    client: TestClient, sweeps: dict[str, dict[str, Any]], path: str
) -> None:
    speaking = read(client.get(path).text)
    assert f"sweep {sweeps['whole']['ref']['name']}, {ROWS} rows" in speaking
    assert "the largest that fits" in speaking
    small = sweeps["small"]["id"]
    page = client.get(path, params={"sweep": small}).text
    assert "sweep A <small> one, 1 rows" in read(page)
    assert "chosen here" in page
    assert f'<option value="{small}" selected>' in page
    links = [link for link in re.findall(r'href="(/m/tiny-gpt2/n/[^"]+)"', page) if "csv" not in link]
    assert links
    assert all(f"sweep={small}" in link for link in links)


def test_the_shell_says_and_chooses_it(client: TestClient, sweeps: dict[str, dict[str, Any]]) -> None:
    folder = str(client.app.state.host.entry("tiny-gpt2").spec.folder)  # type: ignore[attr-defined]
    environment = {"NULLSCOPE_DATA_DIR": str(data_dir(client))}

    def said(*words: str) -> str:
        ran = CliRunner().invoke(main, [*words, "--model", folder], env=environment)
        assert ran.exit_code == 0, ran.output
        return ran.output

    assert f"the sweep {sweeps['whole']['id']}: {ROWS} rows" in said("neurons", "--limit", "2")
    assert f"the sweep {sweeps['small']['id']}: 1 rows" in said("neuron", "1.3", "--sweep", sweeps["small"]["id"])
    assert "labels rest on the weights only" in said("neuron", "1.3", "--sweep", "none")


def forget_what_is_kept(client: TestClient) -> None:
    host = client.app.state.host  # type: ignore[attr-defined]
    for identity in [entry.identity for entry in host.entries.values()]:
        held = host.cache._open[identity]
        for _ in range(held):
            host.cache.close(identity)
        for _ in range(held):
            host.cache.open(identity)
    assert host.cache.held() == []


def test_a_deleted_or_damaged_one_speaks_no_more(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    largest = finished(client, started(client, **{**SMALL, "rows": None}))["id"]
    middle = finished(client, started(client, **{**SMALL, "rows": 2}))["id"]
    least = finished(client, started(client, **{**SMALL, "rows": 1}))["id"]
    assert table(client)["evidence"]["sweep"]["id"] == largest
    assert client.delete(f"/api/v1/sweeps/{largest}").status_code == 204
    assert table(client)["evidence"]["sweep"]["id"] == middle
    for file in (data_dir(client) / "sweeps" / middle).glob("*.parquet"):
        file.write_bytes(b"damaged")
    forget_what_is_kept(client)
    assert table(client)["evidence"]["sweep"]["id"] == least
    (data_dir(client) / "sweeps" / least / RESULT).write_text("{")
    forget_what_is_kept(client)
    assert effects(table(client)) == {}
