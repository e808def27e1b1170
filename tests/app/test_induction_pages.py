"""The induction page: the API's numbers, panels that stand alone, addresses without texts, jobs."""

import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from analysis.controls import standing
from app.core.grammar import read_intervention
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from app.core.view import StandingView
from app.induction import example
from app.induction.routes import PANELS
from app.induction.state import InductionState
from app.induction.to_view import finding
from app.main import create_app
from tests.app.test_permalinks import Addresses
from tests.tolerance import IDENTITY, near

TEXT = "The secret cat sat."
API = "/api/v1/models/tiny-gpt2"


def fragment(client: TestClient, path: str, target: str, **fields: Any) -> Any:
    return client.post(path, data=fields, headers={"HX-Request": "true", "HX-Target": f"div#{target}"})


def test_page_and_api_say_the_same(client: TestClient) -> None:
    page = client.post(
        "/induction?format=json", data={"kind": "text", "text": TEXT, "clip": "1.4", "controls": 2}
    ).json()
    body = {"kind": "text", "text": TEXT, "clip": ["1.4"], "controls": 2, "limit": 100_000}
    api = client.post(f"{API}/induction", json=body).json()
    assert page["found"] == api
    assert page["state"]["text"] == TEXT


def test_a_get_without_settings_runs_the_sample(client: TestClient) -> None:
    page = client.get("/induction")
    assert page.status_code == 200
    assert "from sample.jsonl" in page.text
    assert "data-plotly" in page.text
    assert "hx-post=" in page.text


def test_own_text_is_asked_for_not_guessed(client: TestClient) -> None:
    """An address without a text is about the prompt at hand, which does not fit here; a form about what it was sent."""
    opened = client.get("/induction?kind=text")
    assert opened.status_code == 422
    assert "from sample" not in opened.text
    assert "Nothing has run yet" in client.post("/induction", data={"kind": "text", "text": ""}).text


@pytest.mark.parametrize("name", [name for name in PANELS if name])
def test_every_panel_is_a_page_of_its_own_and_a_fragment(client: TestClient, name: str) -> None:
    fields = {"kind": "random", "rows": 2, "length": 8, "who": "1.3", "heads": "0.1", "neurons": "1.3", "text": TEXT}
    whole = client.post(f"/induction/{name}", data=fields)
    assert whole.status_code == 200
    assert "<!doctype html>" in whole.text
    alone = fragment(client, f"/induction/{name}", name, **fields)
    assert alone.text.lstrip().startswith('<section class="panel')
    assert f'id="{name}"' in alone.text
    assert "<!doctype" not in alone.text


def test_addresses_hold_settings_and_never_texts(client: TestClient) -> None:
    fields = {"kind": "text", "text": TEXT, "separator": "|", "seed": 7, "clip": "1.4", "controls": 0}
    pushed = fragment(client, "/induction", "result", **fields, who="1.4", heads="0.1").headers["HX-Push-Url"]
    own = r"/induction\?model=tiny-gpt2&kind=text&seed=7&clip=1.4&controls=0&who=1.4"
    assert re.fullmatch(own + r"&heads=0.1&prompt=[0-9a-f]{8}", pushed)
    assert f">{TEXT}</textarea>" in client.get(pushed).text.replace("\n", "")  # of this session
    elsewhere = fragment(client, "/induction/who", "who", **fields, who="1.4").headers["HX-Replace-Url"]
    assert re.fullmatch(own + "&prompt=[0-9a-f]{8}", elsewhere)
    state = InductionState.read({"kind": "random", "rows": "3", "seed": "2", "length": "", "neurons": "1.1, 1.2 1.1"})
    assert InductionState.read(dict(p.split("=") for p in state.address().split("?")[1].split("&"))).seed == 2
    assert state.listed("neurons") == ["1.1", "1.2"]


def test_a_shared_address_of_own_text_shows_a_colleague_the_same_curves(client: TestClient) -> None:
    own = "secret cat"
    fields = {"kind": "text", "text": own, "seed": 3, "corrupt": 2, "clip": "1.4 1.5", "controls": 2, "copies": 3}
    mine = client.post("/induction?format=json", data=fields).json()
    assert mine["found"]["permalink"] is None
    (share,) = re.findall(r'formaction="(/r/[0-9a-f]{64})"', fragment(client, "/induction", "result", **fields).text)
    assert client.post(share, follow_redirects=False).headers["location"] == share
    link = fragment(client, "/induction", "result", **fields, who="1.4", how="zero").headers["HX-Push-Url"]
    assert link.startswith(f"{share}?")
    theirs = client.get(link)
    assert "Recomputed: the same numbers" in theirs.text
    assert own in theirs.text
    assert "secret" not in link
    for name, value in (("seed", "3"), ("copies", "3"), ("clip", "1.4 1.5"), ("who", "1.4"), ("how", "zero")):
        assert re.search(rf'name="{name}"[^>]* value="{value}"', theirs.text), name
    kept = client.get(link.split("?")[0], params={"format": "json"}).json()
    assert kept["verdict"] == "recomputed"
    assert kept["result"]["curves"] == mine["found"]["curves"]
    assert kept["result"]["clip"] == mine["found"]["clip"]
    plain = client.get(link.split("?")[0], params={"plain": "true"})
    assert 'data-chart="curves"' in plain.text
    rows = list(csv.DictReader(io.StringIO(client.get(link.split("?")[0], params={"format": "csv"}).text)))
    assert len(rows) == mine["found"]["repeat"]["n_positions"]


@pytest.mark.parametrize(
    ("question", "body"),
    [
        ("induction", {"kind": "random", "rows": 2, "seed": 5}),
        ("heads", {"rows": 2, "pattern": "0.1"}),
        ("induction/attribution", {"kind": "text", "text": TEXT, "neuron": "1.4"}),
        ("induction/ablation", {"kind": "text", "text": TEXT, "heads": ["0.1"], "neurons": ["1.7"], "queries": 3}),
        ("induction/natural", {}),
    ],
)
def test_every_answer_has_a_permalink_that_computes_it_again(
    client: TestClient, question: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"{API}/{question}?store=true", json=body).json()
    assert answer["permalink"] == "/r/" + answer["provenance"]["request_sha256"]
    kept = client.get(answer["permalink"], params={"format": "json"}).json()
    assert (kept["verdict"], kept["largest_difference"]) == ("recomputed", 0.0)
    assert {**kept["result"], "permalink": answer["permalink"]} == answer
    plain = client.get(answer["permalink"], params={"plain": "true"})
    assert "Open on the induction page" in plain.text
    assert client.get(answer["permalink"], params={"format": "csv"}).status_code == 200
    assert Addresses(client.get(f"{answer['permalink']}/page.html").text).found == []  # the file loads nothing


def test_the_worked_example_needs_no_model(tmp_path: Path) -> None:
    """The first page leads to it, and it is whole while the model has not been loaded."""
    found = example.finding()
    assert found is not None
    settings = Settings(data_dir=tmp_path, models=("demo",))
    client = TestClient(create_app(settings, host=ModelHost(settings)))
    first = client.get("/").text
    assert "/induction?example=repeats" in first
    page = client.get("/induction?example=repeats")
    assert page.status_code == 200
    assert "Computed beforehand" in page.text
    assert found.ref.claim.split("(")[0] in html.unescape(page.text)
    for name in ("curves", "ranking", "clip", "controls", "tokens"):
        assert f'data-chart="{name}"' in page.text
    answer = client.get("/induction?example=repeats&format=json").json()
    assert answer["found"] == json.loads(found.view.model_dump_json())


def test_elsewhere_the_example_is_the_page_as_ever(client: TestClient) -> None:
    assert "example=repeats" not in client.get("/").text
    assert "Computed beforehand" not in client.get("/induction?example=repeats").text


def test_the_finding_says_what_its_figures_say() -> None:
    found = example.finding()
    assert found is not None
    assert found.view.clip is not None
    for ratio, said in ((0.5, "takes from it"), (1.0, None), (2.0, "adds to confidence")):
        stands = standing(ratio, [0.9 + 0.01 * i for i in range(20)])
        assert stands is not None
        standings = [StandingView.of_standing("ratio", stands)]
        clip = found.view.clip.model_copy(update={"repeat_ratio": ratio, "standings": standings})
        claim = finding(found.view.model_copy(update={"clip": clip}))
        assert f"by a factor of {ratio:.3f}" in claim
        assert f"rank {stands.rank} of 21" in claim
        assert ("in this model" in claim) == (said is not None)  # nothing is made of what chance gives
        assert said is None or said in claim


def test_buttons_put_names_in_and_take_them_out() -> None:
    state = InductionState.read({"clip": "1.1", "act": "clip:1.2"})
    assert state.clip == "1.1 1.2"
    assert InductionState.read({**state.fields(), "act": "clip:1.1"}).clip == "1.2"
    assert InductionState.read({"act": "who:1.3"}).who == "1.3"
    assert InductionState.read({"act": "pattern:0.1"}).pattern == "0.1"


def table(client: TestClient, path: str, **fields: Any) -> list[dict[str, str]]:
    answer = client.post(path, data=fields)
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_csv_of_every_curve_and_table(client: TestClient) -> None:
    fields = {"kind": "text", "text": TEXT, "neurons": "0.2", "clip": "1.4", "controls": "2", "who": "1.4"}
    curves = table(client, "/induction?format=csv", **fields)
    found = client.post("/induction?format=json", data=fields).json()["found"]
    assert len(curves) == found["repeat"]["n_positions"]
    for name in ("entropy.mean", "loss.low", "activation 0.2.high", "clip.ratio.mean", "clip.ratio_frozen.mean"):
        assert name in curves[0]
    assert float(curves[5]["entropy.mean"]) == found["curves"]["entropy"]["mean"][5]
    assert [row["copy"] for row in curves[:3]] == ["", "1", "1"]
    assert len(table(client, "/induction?format=csv&table=ranking", **fields)) == 40
    assert len(table(client, "/induction?format=csv&table=controls", **fields)) == 2
    assert table(client, "/induction?format=csv&table=tokens", **fields)[0]["row"] == "0"
    assert {"clip.control_ratio.mean", "clip.control_ratio.low"} <= set(curves[0])
    assert curves[0]["clip.control_ratio.mean"] == ""
    assert float(curves[-2]["clip.control_ratio.mean"]) == found["clip"]["control_ratio"]["mean"][-2]
    assert len(table(client, "/induction/heads?format=csv", **fields)) == 8
    pattern = table(client, "/induction/heads?format=csv&table=pattern", **fields, pattern="0.1")
    keys = [float(value) for name, value in pattern[5].items() if name.startswith("key ")]
    assert sum(keys) == near(1, len(keys), dtype=torch.float32)
    parts = table(client, "/induction/who?format=csv&table=positions", **fields)
    assert len(parts) == found["repeat"]["n_positions"]
    names = [name for name in parts[7] if name != "position" and not name.startswith("pre.")]
    assert abs(sum(float(parts[7][name]) for name in names) - float(parts[7]["pre.mean"])) < IDENTITY[torch.float32]
    taken = {**fields, "heads": "0.1", "neurons": "1.4", "queries": "3", "random": "1"}
    assert {row["role"] for row in table(client, "/induction/ablation?format=csv", **taken)} == {"one", "random_one"}
    by_query = table(client, "/induction/ablation?format=csv&table=queries", **taken)
    assert [*by_query[0]][:2] == ["query", "clean 1.4.mean"]
    assert "one 0.1: d 1.4" in by_query[0]
    assert len(by_query) == 3
    assert {row["component"] for row in table(client, "/induction/who?format=csv", **fields)} >= {"embedding", "bias"}


def test_what_is_wrong_stands_in_its_panel(client: TestClient) -> None:
    answer = fragment(client, "/induction/who", "who", who="0.1", kind="random")
    assert answer.status_code == 422
    assert "not in the last layer" in answer.text
    assert 'id="who"' in answer.text
    page = client.get("/induction?kind=random&clip=0.1")
    assert page.status_code == 422
    assert "not in the last layer" in page.text
    assert client.get("/induction/nothing").status_code == 404
    assert client.get("/induction?rows=x").status_code == 422


def test_hostile_text_stays_text(client: TestClient) -> None:
    text = "<script>alert(1)</script> </textarea>"[:18]
    page = client.post("/induction", data={"kind": "text", "text": text}).text
    assert "<script>alert" not in page


def wait(client: TestClient, job_id: str) -> dict[str, Any]:
    """Until the job has ended; the jobs' thread says when."""
    jobs = client.app.state.jobs  # type: ignore[attr-defined]
    thread = jobs._thread
    while thread.is_alive():
        found = client.get(f"{API}/induction/ablation/jobs/{job_id}").json()
        if found["state"] in ("finished", "failed", "cancelled"):
            return found
        thread.join(0.02)
    raise AssertionError("the jobs' thread has ended")


def test_heads_are_taken_out_in_a_job_with_the_same_numbers(client: TestClient) -> None:
    body = {"kind": "text", "text": TEXT, "heads": ["0.1", "1.2"], "neurons": ["1.7"], "random": 1, "queries": 4}
    started = client.post(f"{API}/induction/ablation/jobs", json=body)
    assert started.status_code == 202
    done = wait(client, started.json()["id"])
    assert done["state"] == "finished"
    assert {**client.post(f"{API}/induction/ablation", json=body).json(), "permalink": None} == done["result"]


def test_a_job_of_the_page_ends_in_its_panel(client: TestClient) -> None:
    fields = {"kind": "text", "text": TEXT, "heads": "0.1", "neurons": "1.7"}
    first = fragment(client, "/induction/ablation/start", "ablation", **fields)
    assert first.status_code == 200
    job_id = first.text.split("/induction/jobs/")[1].split('"')[0].split("/")[0]
    wait(client, job_id)
    poll = client.get(f"/induction/jobs/{job_id}", headers={"HX-Request": "true", "HX-Target": "div#ablation-job"})
    assert 'hx-target="#ablation"' in poll.text
    assert "data-plotly" not in poll.text
    panel = client.get(f"/induction/jobs/{job_id}", headers={"HX-Request": "true", "HX-Target": "section#ablation"})
    assert "data-plotly" in panel.text
    assert 'value="0.1"' in panel.text
    whole = client.get(f"/induction/jobs/{job_id}?format=json").json()
    assert whole["found"]["rows"][0]["heads"] == ["0.1"]
    cancelled = client.post(f"/induction/jobs/{job_id}/cancel")
    assert cancelled.status_code == 200  # nothing happens to what has ended
    assert client.get("/induction/jobs/nope").status_code == 404


def test_ranking_carries_the_labels_of_the_atlas(client: TestClient) -> None:
    found = client.post(f"{API}/induction", json={"kind": "random", "rows": 1}).json()
    rows = client.get(f"{API}/neurons", params={"layer": 1, "limit": 1000}).json()["rows"]
    atlas = {row["neuron"]: [label["name"] for label in row["labels"] if label["holds"]] for row in rows}
    assert {row["neuron"]: row["labels"] for row in found["ranking"]} == atlas


def test_copy_as_python_is_the_request(client: TestClient) -> None:
    view = client.get("/induction?kind=random&rows=2&seed=3&format=json").json()
    body: dict[str, Any] = {}
    exec(view["code"].split("body = ")[1].split("answer")[0].join(["body = ", ""]), {}, body)
    again = client.post(f"{API}/induction", json=body["body"]).json()
    assert {**again, "permalink": None} == view["found"]
    assert json.dumps(body["body"]).count("seed") == 1


@pytest.mark.parametrize("mode", ["bos", "mean", "zero"])
@pytest.mark.parametrize(("where", "positions"), [("", None), ("@3,5", [3, 5]), ("@2-4", {"start": 2, "stop": 5})])
def test_a_head_is_a_chip_of_the_prompt_page(client: TestClient, mode: str, where: str, positions: Any) -> None:
    """Added like a neuron, paused, removed; the numbers are the API's, and the shell writes it in the same words."""
    item = {"head": "1.2", "mode": mode, "positions": positions}
    written = f"L1H2:{mode}{where}"
    assert read_intervention(written) == {key: value for key, value in item.items() if value is not None}
    added = {"text": TEXT, "act": "add", "neuron": "L1H2", "mode": mode, "where": where[1:], "do": "1.5:zero"}
    page = client.post("/?format=json", data=added).json()
    assert page["state"]["do"] == f"1.5:zero {written}"
    body = {"text": TEXT, "interventions": [{"neuron": "1.5", "mode": "zero"}, item], "top_k": 12}
    trace = client.post(f"{API}/trace", json=body).json()
    assert page["trace"]["intervened"] == trace["intervened"]
    assert trace["intervened"]["entropy"] != trace["clean"]["entropy"]
    shown = client.post("/", data=added).text
    assert "Pause L1H2" in shown
    assert "/induction?pattern=1.2" in shown
    paused = client.post("/?format=json", data={"text": TEXT, "do": written, "act": "pause:0"}).json()
    assert (paused["state"]["do"], paused["trace"]["intervened"]) == (f"!{written}", None)
    dropped = client.post("/?format=json", data={"text": TEXT, "do": written, "act": "drop:0"}).json()
    assert (dropped["state"]["do"], dropped["chips"]) == ("", [])


def test_a_head_that_there_is_not_or_a_mode_of_neurons_is_refused(client: TestClient) -> None:
    for do, words in (
        ("L9H0:bos", "no head 9.0"),
        ("L1H2:value=1", "head"),
        ("1.5:bos", "mode"),
        ("LH2:bos", "not an"),
    ):
        answer = client.post("/", data={"text": TEXT, "do": do})
        assert answer.status_code == 422, do
        assert words in answer.text


def test_natural_repeats_are_searched_in_ones_own_text(client: TestClient) -> None:
    page = client.post("/induction/natural", data={"kind": "text", "text": "abcdef ghi abcdefx"})
    assert "1 passage in 1 rows of your text" in page.text
    assert "1 passage" not in client.post("/induction/natural", data={"kind": "text"}).text
