"""Why the model is unsure: one prediction taken apart, the same at every door; a page that says no more than that."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from analysis import sinks
from analysis.grammar import printed
from app.cli import main
from app.core.doors.command import _followed
from app.core.place import named_text
from app.core.shell.session import ApiSession
from app.why.answer import sentence
from app.why.charts import along, differences
from app.why.circuit_chart import STEP
from app.why.circuit_chart import circuit as drawn_circuit
from app.why.page_request import WhyState
from app.why.page_view import WhyPageView
from app.why.questions import CIRCUIT, WHY, WHY_COMPARE, WHY_TEXT
from app.why.shell import print_circuit
from app.why.view import CircuitView, EdgeView, NodeView, WhyCompareView, WhyTextView, WhyView
from tests import tiny
from tests.app.served import until
from tests.tolerance import EFFECT

URL = "/api/v1/models/tiny-gpt2"
TEXT = tiny.tokenizer().decode(tiny.token_ids(9, bos=False))
HALVES = ("direct", "ln_scale")


def asked(client: TestClient, **more: object) -> dict:
    response = client.post(f"{URL}/why?store=true", json={"text": TEXT, **more})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_parts_sum_to_what_they_explain_and_the_trace_agrees(client: TestClient) -> None:
    run = client.post(f"{URL}/trace", json={"text": TEXT}).json()["clean"]
    for target, position in (("entropy", None), ("entropy", 3), ("loss", 4)):
        told = asked(client, target=target, position=position)
        difference = told["value"] - told["baseline_value"]
        assert sum(part["total"] for part in told["parts"]) == pytest.approx(difference, abs=1.1e-4)
        for part in told["parts"]:
            assert part["total"] == pytest.approx(part["direct"] + part["ln_scale"], abs=1e-12)
        assert told["value"] == pytest.approx(run[target][told["clean"]["position"]], abs=2e-5)


def test_two_baselines_stand_beside_each_other_and_explain_one_value(client: TestClient) -> None:
    one, other = asked(client, baseline="reference"), asked(client, baseline="prompt")
    assert one["value"] == other["value"]
    assert {row["name"]: row["value"] for row in one["baselines"]} == pytest.approx(
        {row["name"]: row["value"] for row in other["baselines"]}
    )
    assert one["baseline_value"] != other["baseline_value"]
    assert [part["total"] for part in one["parts"]] != [part["total"] for part in other["parts"]]


def test_swapping_the_baselines_changes_shares_and_never_the_sum(client: TestClient) -> None:
    """Each stands beside the other with its two sums; both sets of shares end at the one value."""
    one, other = asked(client, baseline="reference", neurons=0), asked(client, baseline="prompt", neurons=0)
    assert [part["other"] for part in one["parts"]] == pytest.approx(
        [part["total"] for part in other["parts"]], abs=1e-9
    )
    assert [part["total"] for part in one["parts"]] == pytest.approx(
        [part["other"] for part in other["parts"]], abs=1e-9
    )
    for told in (one, other):
        for row in told["baselines"]:
            reached = row["value"] + row["direct"] + row["ln_scale"]
            assert reached == pytest.approx(told["value"], abs=1.1e-4)
            assert reached - told["value"] == pytest.approx(row["completeness_error"], abs=1e-9)


def test_neurons_are_listed_singly_and_the_rest_of_their_mlp_is_summed(client: TestClient) -> None:
    whole, singly = asked(client, neurons=0), asked(client, neurons=3)
    (mlp,) = (part for part in whole["parts"] if part["component"] == "L1.mlp")
    split = [part for part in singly["parts"] if part["kind"] in ("neuron", "rest")]
    assert [part["kind"] for part in split] == ["neuron"] * 3 + ["rest"]
    for half in HALVES:
        assert sum(part[half] for part in split) == pytest.approx(mlp[half], abs=1e-6)


def test_a_token_can_be_the_target(client: TestClient) -> None:
    by_object, by_name = asked(client, target={"token_id": 7}), asked(client, target="log_prob", token_id=7)
    assert by_object["parts"] == by_name["parts"]
    assert by_object["token"]["id"] == 7


def test_ablations_stand_beside_the_shares_with_the_correlation_of_their_order(client: TestClient) -> None:
    assert asked(client)["rank_correlation"] is None
    told = asked(client, ablate=True, neurons=2)
    given = {part["kind"] for part in told["parts"] if part["ablation"] is not None}
    assert given == {"embedding", "position", "head", "mlp", "neuron"}
    assert -1 <= told["rank_correlation"] <= 1


def test_every_position_at_once_is_every_position_by_itself(client: TestClient) -> None:
    told = client.post(f"{URL}/why/text", json={"text": TEXT, "limit": 2}).json()
    assert [one["kind"] for one in told["components"]][-1] == "rest"
    most = max(told["values"])
    assert f"at {told['values'].index(most)}, {most:.2f};" in told["sentence"]
    for position in (0, 4):
        alone = asked(client, position=position, neurons=0)
        for half in HALVES:
            total = sum(one[half][position] for one in told["components"])
            assert total == pytest.approx(sum(part[half] for part in alone["parts"]), abs=2e-4)
        assert told["values"][position] == pytest.approx(alone["value"], abs=2e-5)
    table = client.post(f"{URL}/why/text", json={"text": TEXT, "limit": 2}, headers={"accept": "text/csv"}).text
    assert len(list(csv.DictReader(io.StringIO(table)))) == 3 * len(told["tokens"])


def test_the_difference_of_two_predictions_is_that_of_their_shares(client: TestClient) -> None:
    def compared(**more: object) -> dict:
        response = client.post(f"{URL}/why/compare", json={"text": TEXT, "neurons": 0, **more})
        assert response.status_code == 200, response.text
        return response.json()

    told = compared(position=6, other_position=3)
    here, there = asked(client, position=6, neurons=0), asked(client, position=3, neurons=0)
    for part, one, other in zip(told["parts"], here["parts"], there["parts"], strict=True):
        for half in HALVES:
            assert part[half] == pytest.approx(one[half] - other[half], abs=1e-6)
    apart = told["value"] - told["other_value"]
    assert sum(part["total"] for part in told["parts"]) == pytest.approx(apart, abs=2.1e-4)
    assert ("above" in told["sentence"]) == (apart > 0)
    texts = compared(position=6, other_text=TEXT, other_position=3)
    assert texts["parts"] == told["parts"]
    assert compared(position=6, other_text=TEXT[: len(TEXT) // 2])["here"] == told["here"]
    nothing = compared(position=3, other_position=3)
    assert all(part["total"] == pytest.approx(0, abs=1e-9) for part in nothing["parts"])
    page = client.post("/why?format=json", data={"text": TEXT, "pos": "6", "vs": "3"}).json()["compared"]
    assert page["value"] - page["other_value"] == pytest.approx(apart, abs=1e-6)
    assert page["sentence"] in html.unescape(client.post("/why", data={"text": TEXT, "pos": "6", "vs": "3"}).text)
    rows = client.post("/why?format=csv", data={"text": TEXT, "pos": "6", "vs": "3", "table": "compared"}).text
    assert len(list(csv.DictReader(io.StringIO(rows)))) == len(page["parts"])
    assert client.post(f"{URL}/why/compare", json={"text": TEXT, "other_position": 99}).status_code == 422


def test_losses_of_two_next_tokens_part_at_the_baseline_already(client: TestClient) -> None:
    """The mean stream expects each of them differently: that difference is no part's share."""
    given = {"text": TEXT, "position": 6, "other_position": 3, "neurons": 0}
    for target in ("loss", "entropy"):
        told = client.post(f"{URL}/why/compare", json={**given, "target": target}).json()
        assert (abs(told["baseline_difference"]) > 1e-3) == (target == "loss")
        assert ("at the baseline already" in told["sentence"]) == (target == "loss")
        whole = told["baseline_difference"] + sum(part["total"] for part in told["parts"])
        assert whole == pytest.approx(told["value"] - told["other_value"], abs=2.1e-4)
        view = WhyCompareView.model_validate(told)
        rows = sum(row["total"] for row in view.csv_rows())
        assert rows == pytest.approx(whole, abs=1e-9)
        bars = [bar for bar in differences(view).data if bar.type == "bar"]
        drawn = sum(float(size) for bar in bars for size in bar.x)
        assert drawn == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("fields", [{}, {"pos": "3"}, {"target": "loss"}])
def test_the_strip_marks_the_token_before_its_split_has_come(client: TestClient, fields: dict[str, str]) -> None:
    """Where the device is busy the page follows the split as a run, and its strip stands meanwhile."""
    page = WhyPageView.model_validate(client.post("/why?format=json", data={"text": TEXT, **fields}).json())
    assert page.why is not None
    assert page.model_copy(update={"why": None}).position == page.position == page.why.clean.position


def test_a_permalink_computes_it_again(client: TestClient) -> None:
    name = asked(client)["permalink"].rpartition("/")[2]
    assert client.get(f"/api/v1/results/{name}").json()["verdict"] == "recomputed"


def test_the_page_shows_the_apis_numbers(client: TestClient) -> None:
    form = {"text": TEXT, "pos": "4", "along": "true"}
    data = client.post("/why?format=json", data=form).json()
    assert data["why"]["parts"] == asked(client, position=4, neurons=10)["parts"]
    page = client.post("/why", data=form).text
    assert data["why"]["sentence"] in page.replace("&#39;", "'")
    rows = list(csv.DictReader(io.StringIO(client.post("/why?format=csv", data={"text": TEXT}).text)))
    assert "component" in rows[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pos": "900"}, "Position 900"),
        ({"target": "loss", "pos": "LAST"}, "no next token, so the prediction there has no loss"),
        ({"target": "log_prob"}, "Which token"),
        ({"target": "log_prob", "token": "zebra"}, "is not one token of this model"),
        ({"target": "log_prob", "token": "9999"}, "outside the vocabulary"),
    ],
)
def test_what_cannot_be_asked_is_said_and_the_text_stays(client: TestClient, fields: dict, words: str) -> None:
    last = len(client.post(f"{URL}/tokens", json={"text": TEXT}).json()["tokens"]) - 1
    fields = {name: value.replace("LAST", str(last)) for name, value in fields.items()}
    answer = client.post("/why", data={"text": TEXT, **fields}, headers={"accept": "text/html"})
    assert answer.status_code == 422
    assert words in answer.text
    assert "From the baseline to the prediction" in answer.text, "the page stands without it"


def test_the_sentence_says_the_numbers(client: TestClient) -> None:
    view = WhyView.model_validate(asked(client))
    said = sentence(view, "reference")
    told = asked(client, neurons=0)
    largest = max(WhyView.model_validate(told).parts, key=lambda part: abs(part.total))
    assert f"{view.value:.2f} nats" in said
    assert ("above" in said) == (view.value > view.baseline_value)
    assert f"{largest.component} {printed(largest.total, '+.2f')}" in said, (
        "the last MLP as a whole, however its neurons are listed"
    )
    assert told["sentence"] == said


def test_a_chosen_token_belongs_to_its_text(client: TestClient) -> None:
    """Another text is explained at its own last token; what was chosen in the one before is gone."""
    chosen = client.post("/why?format=json", data={"text": TEXT, "pos": "4", "model": "tiny-gpt2"}).json()
    assert chosen["why"]["clean"]["position"] == 4
    of = named_text("tiny-gpt2", TEXT)
    again = {"text": TEXT, "pos": "4", "chosen_in": of, "target": "loss", "model": "tiny-gpt2"}
    assert client.post("/why?format=json", data=again).json()["why"]["clean"]["position"] == 4
    other = client.post("/why?format=json", data={**again, "text": "The cat"}).json()
    assert other["why"]["clean"]["position"] == len(other["trace"]["tokens"]) - 2


def test_the_token_of_another_target_waits(client: TestClient) -> None:
    form = {"text": TEXT, "token": "nonsense"}
    assert client.post("/why?format=json", data=form).status_code == 200
    refused = client.post("/why", data={**form, "target": "log_prob"}, headers={"accept": "text/html"})
    assert refused.status_code == 422
    assert "is not one token" in refused.text
    assert 'value="nonsense"' in refused.text


def test_a_token_is_typed_as_it_reads_or_by_its_id(client: TestClient) -> None:
    """At the API, on the page (␣ for a space, digits an id, digits in quotes a token) and in a shell."""
    (space,) = tiny.tokenizer()(" ", add_special_tokens=False).input_ids
    (digit,) = tiny.tokenizer()("7", add_special_tokens=False).input_ids
    by_id = asked(client, target={"token_id": space})
    for written in (" ", "␣"):
        assert asked(client, target={"token": written})["parts"] == by_id["parts"]
        told = asked(client, target="log_prob", token=written)
        assert told["token"]["id"] == space
        assert "The log-probability of “␣” here" in told["sentence"]
    for typed, expected in (("␣", space), (str(space), space), ('"7"', digit), ("7", 7)):
        form = {"text": TEXT, "target": "log_prob", "token": typed}
        assert client.post("/why?format=json", data=form).json()["why"]["token"]["id"] == expected
    many = client.post(f"{URL}/why", json={"text": TEXT, "target": {"token": "two words"}}).json()["error"]
    assert "'two words' is not one token" in many["message"]
    for wrong in ({"target": "log_prob", "token": "a", "token_id": 3}, {"target": "entropy", "token": "a"}):
        assert client.post(f"{URL}/why", json={"text": TEXT, **wrong}).status_code == 422


def test_each_table_of_the_page_is_its_own_file(client: TestClient) -> None:
    form = {"text": TEXT, "along": "true"}
    parts = client.post("/why?format=csv", data=form).text.splitlines()[0]
    along = client.post("/why?format=csv", data={**form, "table": "along"}).text.splitlines()[0]
    assert parts.startswith("component")
    assert along.startswith("position")


def circuit(client: TestClient, **more: object) -> dict:
    response = client.post(f"{URL}/circuit", json={"text": TEXT, **more})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_share_is_followed_upstream_from_a_bar_and_a_row(client: TestClient) -> None:
    """A part's circuit begins with the share that the waterfall shows."""
    told = asked(client, neurons=3)
    part = next(part for part in told["parts"] if part["kind"] == "neuron")
    drawn = circuit(client, component=part["component"], of="entropy", check=True)
    assert drawn["value"] - drawn["baseline_value"] == pytest.approx(part["total"], abs=1e-5)
    assert -1 <= drawn["rank_correlation"] <= 1
    form = {"text": TEXT, "follow": part["component"]}
    page = client.post("/why", data=form).text
    assert f"What drives {part['component']}" in page
    data = client.post("/why?format=json", data=form).json()
    assert data["circuit"]["edges"] == circuit(client, component=part["component"], of="entropy")["edges"]
    rows = list(csv.DictReader(io.StringIO(client.post("/why?format=csv", data={**form, "table": "circuit"}).text)))
    assert len(rows) == len(data["circuit"]["edges"])


def test_a_neuron_is_followed_over_a_whole_text_at_every_door(client: TestClient) -> None:
    told = circuit(client, component="1.3", average=True, check=True)
    assert told["position"] is None
    assert {node["position"] for node in told["nodes"]} == {None}
    assert all(node["kept"] is None or node["kept"] >= 0.9 for node in told["nodes"])
    into = sum(edge["share"] for edge in told["edges"] if edge["target"] == 0)
    assert told["unexplained"] == pytest.approx(told["value"] - told["baseline_value"] - into)
    assert f"{told['rank_correlation']:.2f}" in told["sentence"]
    form = {"text": TEXT, "at": "all", "patch": "true"}
    page = client.post("/m/tiny-gpt2/n/1.3?format=json", data=form).json()["circuit"]
    assert page["edges"] == told["edges"]
    assert page["sentence"] == told["sentence"]


def test_the_neurons_page_follows_it_at_a_token_of_its_text(client: TestClient) -> None:
    drawn = {"HX-Request": "true", "HX-Target": "div#drives"}
    told = circuit(client, component="1.3", position=4)
    block = client.post("/m/tiny-gpt2/n/1.3", data={"text": TEXT, "at": "4"}, headers=drawn)
    assert block.status_code == 200
    assert told["sentence"] in html.unescape(block.text)
    assert client.post("/m/tiny-gpt2/n/1.3", data={"text": TEXT, "at": "999"}, headers=drawn).status_code == 422


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"component": "L0H1"}, "an activation is a neuron"),
     ({"component": "1.3", "average": True, "position": 2}, "give none"),
     ({"component": "9.1"}, "no neuron"),
     ({"component": "L9H0", "of": "entropy"}, "There is no L9H0"),
     ({"component": "embed"}, "a neuron, 3.62, a head, L2H3, or an MLP, L0.mlp")],
)  # fmt: skip
def test_what_has_no_circuit_is_refused(client: TestClient, fields: dict, words: str) -> None:
    answer = client.post(f"{URL}/circuit", json={"text": TEXT, **fields})
    assert answer.status_code in (404, 422)
    assert words in answer.text


JOBS = {
    "why": {"ablate": "true"},
    "why_text": {"along": "true"},
    "circuit": {"follow": "1.3", "patch": "true"},
}


@pytest.mark.parametrize("question", JOBS)
def test_the_page_hands_long_work_to_a_job_and_shows_it_there(client: TestClient, question: str) -> None:
    form = {"text": TEXT, "pos": "6", **JOBS[question]}
    queued = client.post("/why?format=json", data={**form, "job": question}).json()["making"][question]
    until(lambda: client.get(f"/api/v1/jobs/{queued['job']}").json()["state"] == "finished")
    shown = client.get(f"/why/jobs/{question}/{queued['job']}", headers={"accept": "application/json"}).json()
    field = {"why_text": "along"}.get(question, question)
    now = client.post("/why?format=json", data=form).json()[field]
    assert {**shown[field], "permalink": None} == {**now, "permalink": None}
    assert shown["state"]["pos"] == "6"
    assert shown[field]["sentence"] in html.unescape(client.get(f"/why/jobs/{question}/{queued['job']}").text)
    assert f'href="/why/jobs/{question}/{queued["job"]}"' in client.get("/jobs").text


def test_a_command_follows_a_job_of_the_server(client: TestClient) -> None:
    door = ApiSession(lambda method, path, body: client.request(method, f"/api/v1{path}", json=body), ["tiny-gpt2"])
    body = {"text": TEXT, "component": "1.3", "check": True}
    followed = _followed(door, CIRCUIT, "/models/tiny-gpt2/circuit", body)
    assert {**followed, "permalink": None} == {**circuit(client, component="1.3", check=True), "permalink": None}
    alone = CliRunner().invoke(main, ["circuit", TEXT, "--component", "1.3", "--as-job"])
    assert alone.exit_code == 2
    assert "--url" in alone.output


def test_the_lines_of_an_answer_end_with_the_whole(client: TestClient) -> None:
    """The shares come before the ablations, the circuit before its passes."""
    for path, body, early in (
        ("why", {"ablate": True}, "rank_correlation"),
        ("circuit", {"component": "1.3", "check": True}, "rank_correlation"),
        ("why/text", {}, None),
    ):
        sent = {"json": {"text": TEXT, **body}, "headers": {"accept": "application/x-ndjson"}}
        *before, last = map(json.loads, client.post(f"{URL}/{path}", **sent).text.splitlines())
        whole = client.post(f"{URL}/{path}", json={"text": TEXT, **body}).json()
        assert {**last, "permalink": None} == {**whole, "permalink": None}
        if early is not None:
            assert before[0][early] is None
            assert before[0]["value"] == last["value"]


def test_the_pinned_run_stands_beside_the_chosen_token(client: TestClient) -> None:
    """Its text is what was pinned on the page Prompt; the token is the one at the same place, or its last."""
    other = tiny.tokenizer().decode(tiny.token_ids(5, bos=False, seed=3))
    page = {"accept": "text/html"}
    assert client.post("/why", data={"text": TEXT, "vs": "pinned"}, headers=page).status_code == 422
    client.post("/", data={"text": other, "act": "pin"}, headers=page)
    client.post("/", data={"text": TEXT, "pin": json.dumps({"text": other})}, headers=page)
    shown = html.unescape(client.post("/why", data={"text": TEXT, "pos": "3", "vs": "pinned"}, headers=page).text)
    told = client.post(
        f"{URL}/why/compare", json={"text": TEXT, "position": 3, "other_text": other, "other_position": 3}
    )
    assert told.json()["sentence"] in shown
    client.post("/state", data={"act": "clear"})


def test_what_is_done_to_the_other_pass_is_in_the_difference(client: TestClient) -> None:
    """Between a token and itself under interventions: the two traced entropies, and shares that sum to their gap."""
    done = ["0.3:value=2", "L0H1:zero"]
    asked_for = {"text": TEXT, "position": 5, "other_position": 5, "neurons": 0, "other_interventions": done}
    told = client.post(f"{URL}/why/compare", json=asked_for).json()
    traced = client.post(f"{URL}/trace", json={"text": TEXT, "interventions": done}).json()
    assert told["other_value"] == pytest.approx(traced["intervened"]["entropy"][5], abs=EFFECT)
    assert told["value"] == pytest.approx(traced["clean"]["entropy"][5], abs=EFFECT)
    apart = told["value"] - told["other_value"]
    assert sum(part["total"] for part in told["parts"]) == pytest.approx(apart, abs=2.1e-4)
    assert "under 0.3:value=2, L0H1:zero" in told["sentence"]
    many = {**asked_for, "other_interventions": [f"0.{i % 8}:zero@{i}" for i in range(65)]}
    refused = client.post(f"{URL}/why/compare", json=many)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "limit_interventions")


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        ({"do": "0.3:value=2 !L0H1:zero"}, "under 0.3:value=2 ("),
        ({"ln": "2.5"}, "their LN scales are held differently"),
        ({"bos": "no"}, "another choice of BOS"),
    ],
)
def test_the_pinned_run_is_compared_as_it_was_pinned(client: TestClient, pin: dict[str, str], expected: str) -> None:
    """With its interventions, but for paused ones; what cannot be split is refused, with why."""
    page = {"accept": "text/html"}
    client.post("/", data={"text": TEXT, "pin": json.dumps({"text": TEXT, **pin})}, headers=page)
    shown = client.post("/why", data={"text": TEXT, "pos": "3", "vs": "pinned"}, headers=page)
    assert (shown.status_code, expected in html.unescape(shown.text)) == (422 if "bos" in pin else 200, True)
    client.post("/state", data={"act": "clear"})


@pytest.mark.parametrize("by", ["halves", "kind", "component"])
def test_what_is_stacked_along_a_text_adds_up_to_its_line(client: TestClient, by: str) -> None:
    view = WhyTextView.model_validate(client.post(f"{URL}/why/text", json={"text": TEXT, "limit": 3}).json())
    *bars, line = along(view, by).data
    for at, value in enumerate(line.y):
        assert sum(bar.y[at] for bar in bars) == pytest.approx(value, abs=1.1e-4)
    names = [bar.name for bar in bars]
    assert (
        names
        == {
            "halves": ["logits", "LN scale"],
            "kind": ["embedding", "positions", "heads", "MLPs", "biases"],
            "component": [one.component for one in view.components],
        }[by]
    )


FOLLOWED = {
    "why": ("split", {}, "why-title"),
    "why_text": ("alongside", {"along": "true"}, "The same split at every token"),
    "why_compare": ("compared", {"vs": "3"}, "that behind"),
    "circuit": ("drives", {"follow": "1.3", "patch": "true"}, "What drives 1.3"),
    "lens": ("depth", {"lens": "kl_final"}, "Where along the depth certainty appears"),
}


@pytest.mark.parametrize("question", FOLLOWED)
def test_an_answer_in_the_making_is_followed_in_its_own_block(client: TestClient, question: str) -> None:
    """A browser's page begins the answer and asks for it again; the block that comes is the page's own."""
    block, more, words = FOLLOWED[question]
    form = {"text": TEXT, "pos": "6", **more}
    page = client.post("/why?format=json", data=form).json()
    run = page["runs"][question]
    headers = {"HX-Request": "true", "HX-Target": f"section#{block}", "accept": "text/html"}
    shown = client.get(f"/why/runs/{run}?order=size&by=kind&lens=kl_final", headers=headers)
    assert shown.status_code == 200
    assert f'id="{block}"' in shown.text
    assert words in shown.text
    assert "hx-get" not in shown.text, "it is whole: nothing is asked for again"
    assert "<html" not in shown.text
    whole = client.get(f"/why/runs/{run}?format=json").json()
    field = {"why_text": "along", "why_compare": "compared"}.get(question, question)
    assert whole[field] == page[field]
    assert client.get("/why/runs/nothing").status_code == 404


DISTURBED = {"interventions": ["0.3:value=2", "L0H1:zero", "1.5:mean"]}
HELD = {"ln_scale": 2.5}


@pytest.mark.parametrize("done", [DISTURBED, HELD, DISTURBED | HELD, {"ln_scale": "median"}], ids=str)
def test_a_disturbed_pass_is_split_as_it_was_run(client: TestClient, done: dict) -> None:
    """Its value is the trace's, its shares sum to it, against the undisturbed baseline; a held scale has no share."""
    traced = client.post(f"{URL}/trace", json={"text": TEXT, **done}).json()
    run = traced["intervened"] or traced["clean"]
    told = asked(client, position=5, ablate=True, **done)
    assert told["value"] == pytest.approx(run["entropy"][5], abs=EFFECT)
    assert told["clean"]["entropy"] == pytest.approx(run["entropy"][5], abs=EFFECT)
    plain = asked(client, position=5)
    assert told["undisturbed"] == pytest.approx(plain["value"], abs=EFFECT)
    assert plain["undisturbed"] is None
    total = sum(part["total"] for part in told["parts"])
    assert total == pytest.approx(told["value"] - told["baseline_value"], abs=1.1e-4)
    if "ln_scale" in done:
        assert all(part["ln_scale"] == 0 for part in told["parts"])
        assert "the LN scale held at" in told["sentence"]
        assert told["ln_scale"] == traced["ln_scale"]
    else:
        assert told["baseline_value"] == pytest.approx(plain["baseline_value"], abs=1e-9)
        assert told["under"] == done["interventions"]
    along_text = client.post(f"{URL}/why/text", json={"text": TEXT, **done}).json()
    assert along_text["values"] == pytest.approx(run["entropy"], abs=EFFECT)
    back = {f"other_{name}": value for name, value in done.items()}
    beside = {"text": TEXT, "position": 5, "other_position": 5, "neurons": 0}
    one, other = (client.post(f"{URL}/why/compare", json=beside | given).json() for given in (done, back))
    assert one["value"] == pytest.approx(other["other_value"], abs=1e-9)
    for ways in (one, other):
        whole = ways["baseline_difference"] + sum(part["total"] for part in ways["parts"])
        assert whole == pytest.approx(ways["value"] - ways["other_value"], abs=2.1e-4)
    assert (one["baseline_difference"] != 0) == ("ln_scale" in done)


def test_what_is_at_hand_is_done_to_the_pass_that_the_page_splits(client: TestClient) -> None:
    """The chips of the bar are in the numbers, in the files of the page, and in words; paused ones are not."""
    page = {"accept": "text/html"}
    client.post("/", data={"text": TEXT, "do": "0.3:value=2 !L0H1:zero"}, headers=page)
    shown = html.unescape(client.get("/why", headers=page).text)
    told = asked(client, interventions=["0.3:value=2"], neurons=10)
    assert told["sentence"] in shown
    assert "done to it" in shown
    assert 'name="do" value="0.3:value=2 !L0H1:zero"' in shown, "a file that the form asks for is of the same pass"
    stale = client.post("/why", data={"text": TEXT, "pos": "5", "do": ""}, headers=page)
    assert "under 0.3:value=2 is" in html.unescape(stale.text), "the bar was changed since the form was drawn"
    linked = client.get("/why?do=0.3:zero", headers=page)
    assert "under 0.3:value=2 is" in html.unescape(linked.text), "what the bar drops comes back from no address"
    assert "under 0.3:value=2 is" in html.unescape(client.get("/why", headers=page).text), "and has lost nothing"
    form = {"text": TEXT, "do": "0.3:value=2 !L0H1:zero"}
    assert client.post("/why?format=json", data=form).json()["why"]["parts"] == told["parts"]
    beside = client.post("/why?format=json", data={**form, "pos": "5", "vs": "undisturbed"}).json()["compared"]
    assert beside["here"]["position"] == beside["there"]["position"] == 5
    assert beside["value"] != beside["other_value"]
    other = client.post("/why?format=json", data={**form, "pos": "5", "vs": "3"}).json()["compared"]
    alone = asked(client, position=3, interventions=["0.3:value=2"])
    assert other["other_value"] == pytest.approx(alone["value"], abs=1e-9), "another token of the same pass"
    client.post("/state", data={"act": "clear"})


def test_a_token_beyond_the_pinned_text_is_refused_with_a_way_on(client: TestClient) -> None:
    other, page = "cat", {"accept": "text/html"}
    client.post("/", data={"text": TEXT, "pin": json.dumps({"text": other})}, headers=page)
    refused = client.post("/why", data={"text": TEXT, "pos": "7", "vs": "pinned"}, headers=page)
    assert refused.status_code == 422
    assert "has no prediction at 7" in refused.text
    ended = client.post("/why", data={"text": TEXT, "pos": "7", "vs": "pinned_end"}, headers=page)
    sent = {"text": TEXT, "position": 7, "other_text": other}
    assert client.post(f"{URL}/why/compare", json=sent).json()["sentence"] in html.unescape(ended.text)
    client.post("/state", data={"act": "clear"})


def test_white_space_is_named_by_its_sign_in_every_sentence(client: TestClient) -> None:
    text = " \n \n "
    sentences = [
        client.post(f"{URL}/{path}", json={"text": text, **more}).json()["sentence"]
        for path, more in (
            ("why", {}), ("why/text", {}), ("why/compare", {"position": 3, "other_position": 2}), ("lens", {}),
            *(("circuit", {"component": name, "of": "entropy"}) for name in ("L1H0", "L0H1")),
        )
    ]  # fmt: skip
    assert not [sentence for sentence in sentences if "“”" in sentence or "\n" in sentence or "“ ”" in sentence]
    assert any("␣" in sentence or "⏎" in sentence for sentence in sentences)


def test_every_panel_gives_its_numbers_as_a_file(client: TestClient) -> None:
    """Each panel of the page has a button for its own table and one for the whole; the lens among them."""
    form = {"text": TEXT, "along": "true", "vs": "3", "follow": "1.3", "lens": "entropy"}
    page = client.post("/why", data=form).text
    tables = ("along", "circuit", "compared", "lens")
    for table in tables:
        assert f'name="table" value="{table}"' in page
        answered = client.post("/why?format=csv", data={**form, "table": table})
        given = client.post(f"{URL}/lens", json={"text": TEXT}, headers={"accept": "text/csv"}).text
        assert (answered.text == given) == (table == "lens")
    assert page.count(">JSON</button>") == len(tables) + 1


def test_a_neurons_average_over_the_text_is_followed_from_the_page(client: TestClient) -> None:
    form = {"text": TEXT, "follow": "1.3", "over": "text"}
    drawn = client.post("/why?format=json", data=form).json()["circuit"]
    assert drawn["edges"] == circuit(client, component="1.3", average=True)["edges"]
    here = client.post("/why?format=json", data={**form, "over": "activation", "pos": "4"}).json()["circuit"]
    assert here["edges"] == circuit(client, component="1.3", position=4)["edges"]
    assert 'name="over"' in client.post("/why", data={"text": TEXT}).text
    head = client.post("/why", data={**form, "follow": "L0H1"}, headers={"accept": "text/html"})
    assert head.status_code == 422
    assert "an activation is a neuron" in html.unescape(head.text)


def test_no_request_of_why_answers_with_a_regular_expression(client: TestClient) -> None:
    """Every field sent wrong, at the API and on the page: what is refused is refused in words."""
    for path, kind in (("why", WHY), ("why/text", WHY_TEXT), ("why/compare", WHY_COMPARE), ("circuit", CIRCUIT)):
        for name in kind.request.model_fields:
            body = {"text": TEXT, **({"component": "1.3"} if path == "circuit" else {}), name: "^foo("}
            answer = client.post(f"{URL}/{path}", json=body)
            if answer.status_code != 200:
                assert "pattern" not in answer.text, (path, name, answer.text)
    for name in WhyState.model_fields:
        answer = client.post("/why", data={"text": TEXT, name: "^foo("}, headers={"accept": "text/html"})
        assert "should match pattern" not in answer.text, name


@pytest.mark.parametrize("tokens", [(6,), (0, 3, 6)], ids=str)
def test_names_in_the_graph_stand_apart_on_the_narrowest_window(client: TestClient, tokens: tuple[int, ...]) -> None:
    """Twenty heads of a layer, and as many neurons behind them, at one token and at three: in pixels of a graph as wide
    as it is at least, no two names (of up to 46 by 12 pixels) meet."""
    view = CircuitView.model_validate(circuit(client, component="1.3", position=6))
    nodes = view.nodes[:1]
    for kind, name in (("head", "L29H{}"), ("neuron", "29.11{}")):
        same = {"kind": kind, "layer": 0, "source": None, "without": []}
        nodes += [NodeView(component=name.format(i), position=tokens[i % len(tokens)], **same) for i in range(20)]
    edges = [EdgeView(source=i, target=0, share=1 / i) for i in range(1, len(nodes))]
    figure = drawn_circuit(view.model_copy(update={"nodes": nodes, "edges": edges}))
    (names,) = (trace for trace in figure.data if trace.mode == "markers+text")
    low, high = figure.layout.xaxis.range
    assert all(low + 0.5 < x < high - 0.5 for x in names.x), "all of it is drawn"
    margin = figure.layout.margin
    across = (figure.layout.meta["least"] - margin.l - margin.r) / (high - low)
    up = STEP
    at = [(x * across, y * up) for x, y, text in zip(names.x, names.y, names.text, strict=True) if text]
    assert len(at) == 41
    for i, (x, y) in enumerate(at):
        assert not [1 for other_x, other_y in at[:i] if abs(x - other_x) < 46 and abs(y - other_y) < 12]


def test_a_link_tells_what_was_done_and_a_notebook_of_it_is_refused(client: TestClient) -> None:
    name = asked(client, interventions=["0.3:value=2"])["permalink"].rpartition("/")[2]
    assert client.get(f"/api/v1/results/{name}").json()["verdict"] == "recomputed"
    assert "neuron 0.3: activation set to 2" in html.unescape(client.get(f"/r/{name}").text)
    refused = client.get(f"/r/{name}/notebook.ipynb")
    assert refused.status_code == 422
    assert "no notebook for a split under interventions" in refused.text


ALONE = {"text": "a", "prepend_bos": False, "baseline": "prompt"}


def test_what_is_like_its_mean_is_said_to_be(client: TestClient) -> None:
    """One token against its own mean: no side of it, no order of zeros, and what was computed is shown all the same."""
    alone = asked(client, **ALONE, ablate=True)
    assert alone["rank_correlation"] is None
    assert all(part["ablation"] == pytest.approx(0, abs=EFFECT) for part in alone["parts"] if part["kind"] == "head")
    assert "the same as that of this prompt's mean stream" in alone["sentence"]
    page = client.post("/why", data={"text": ALONE["text"], "bos": "no", "baseline": "prompt", "ablate": "true"}).text
    assert ">mean ablation</th>" in page
    assert "than at its baseline" not in page
    response = client.post(f"{URL}/why/compare", json={"text": TEXT, "position": 2, "other_position": 2})
    assert "the same as that behind" in response.json()["sentence"]
    none = client.post(f"{URL}/circuit", json={**ALONE, "component": "1.3", "check": True}).json()
    assert (none["edges"], none["rank_correlation"]) == ([], None)
    assert none["sentence"].endswith("nothing is drawn.")
    assert client.post("/why", data={"text": ALONE["text"], "bos": "no", "baseline": "prompt", "follow": "1.3",
                                     "over": "activation", "patch": "true"}).status_code == 200  # fmt: skip


def test_a_mean_and_an_average_count_a_sink_where_the_server_does(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "leads_with_sink", lambda model: True)
    counts, averages = {}, {}
    for keep in (False, True):
        server = make_client(keep_sinks=keep)
        told = asked(server)
        counts[keep] = {one["name"]: one["tokens"] for one in told["baselines"]}
        along = server.post(f"{URL}/why/text", json={"text": TEXT}).json()
        assert along["baseline"]["tokens"] == counts[keep]["reference"]
        own = circuit(server, component="1.3", baseline="prompt")
        assert own["baseline_tokens"] == counts[keep]["prompt"]
        averages[keep] = circuit(server, component="1.3", average=True)["value"]
    assert counts[True]["prompt"] == counts[False]["prompt"] + 1
    assert counts[True]["reference"] > counts[False]["reference"]
    assert averages[True] != pytest.approx(averages[False])


def test_the_command_prints_a_circuit_whole(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Every checked edge beside its pass, however few they are, and what is large by name."""
    told = circuit(client, component="1.3", check=True, width=1, hops=1, position=1)
    assert told["rank_correlation"] is None
    assert told["massive"]
    assert told["sinks"]
    print_circuit(told)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (edge,) = told["edges"]
    assert f"{edge['patched']:.5g}" in {word for line in lines for word in line}
    for one in told["massive"]:
        assert [str(one["dimension"]), f"{one['value']:.5g}", f"{one['share']:.5g}"] in [line[-3:] for line in lines]
    for one in told["sinks"]:
        at = [line[0] == str(one["layer"]) and line[-1] == f"{one['attention']:.5g}" for line in lines if line]
        assert any(at)
    assert f"{told['disagreement']:.0%}" in told["sentence"]


OPENED = {
    "why": ("why", {"position": 3, "target": {"token": "a"}, "baseline": "prompt"}),
    "why/text": ("along", {"target": {"token": "a"}}),
    "why/compare": ("compared", {"position": 3, "other_position": 5, "neurons": 10}),
    "circuit": ("circuit", {"component": "1.3", "position": 4, "check": True}),
    "circuit of a share": ("circuit", {"component": "L1.mlp", "of": "loss", "position": 4}),
    "circuit of an average": ("circuit", {"component": "1.3", "average": True}),
}


@pytest.mark.parametrize("which", OPENED)
def test_a_permalink_opens_as_the_page_that_shows_it(client: TestClient, which: str) -> None:
    """With all that its question asked: the token that it speaks of, the other token, what is followed."""
    shown, fields = OPENED[which]
    told = client.post(f"{URL}/{which.split(' of ')[0]}?store=true", json={"text": "an abbey", **fields}).json()
    page = client.get(told["permalink"]).text
    (form,) = re.findall(r'<form method="post" action="[^"]*/why">(.*?)Open on the Why page', page, re.S)
    sent = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)"\s+value="(.*?)"', form, re.S)}
    opened = client.post("/why?format=json", data=sent).json()
    assert opened["problem"] is None
    assert opened[shown]["sentence"] == told["sentence"]


def test_a_link_tells_which_token_an_edge_is_of(client: TestClient) -> None:
    """Names alone would be those of several edges."""
    told = client.post(f"{URL}/circuit?store=true", json={"text": TEXT, "component": "1.3"}).json()
    page = html.unescape(client.get(told["permalink"]).text)
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("The largest edges")[2].partition("</table>")[0], re.S)[1:]
    first = [re.sub("<.*?>", "", re.split("<t[hd]", row, maxsplit=6)[0] + row.rpartition("</th>")[0]) for row in rows]
    assert len(first) > 2
    assert len(set(first)) == len(first)
    page = client.get(asked(client, neurons=1)["permalink"]).text
    assert "rest of L1.mlp" in page
    assert "rest␣of" not in page


def test_a_followed_component_belongs_to_its_model(client: TestClient) -> None:
    """Chosen in another model it is let go, as a token is of another text; a new text keeps it."""
    sent = {"text": TEXT, "model": "tiny-gpt2", "follow": "1.3"}
    page = client.post("/why", data=sent).text
    of = re.findall(r'name="followed_in"\s+value="(\w+)"', page)[0]
    kept = client.post("/why?format=json", data={**sent, "text": "another text", "followed_in": of}).json()
    assert kept["circuit"]["component"] == "1.3"
    before = named_text("another model", "")
    left = client.post("/why?format=json", data={**sent, "follow": "29.1165", "followed_in": before})
    assert left.status_code == 200
    assert (left.json()["circuit"], left.json()["state"]["follow"]) == (None, "")
