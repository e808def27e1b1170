"""Why the model is unsure: one prediction taken apart, the same at every door; a page that says no more than that."""

from __future__ import annotations

import csv
import html
import io

import pytest
from starlette.testclient import TestClient

from app.core.place import named_text
from app.why.answer import sentence
from app.why.view import WhyView
from tests import tiny

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
        ({"target": "loss", "pos": "LAST"}, "no next token"),
        ({"target": "log_prob"}, "token_id"),
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
    assert f"{largest.component} {largest.total:+.2f}" in said, (
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
    assert "named by its id" in refused.text


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
     ({"component": "L9H0", "of": "entropy"}, "There is no L9H0"), ({"component": "embed"}, "component")],
)  # fmt: skip
def test_what_has_no_circuit_is_refused(client: TestClient, fields: dict, words: str) -> None:
    answer = client.post(f"{URL}/circuit", json={"text": TEXT, **fields})
    assert answer.status_code in (404, 422)
    assert words in answer.text
