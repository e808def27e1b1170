"""The induction API: what the numerics give, said through HTTP; limits and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from tests import tiny
from tests.tolerance import IDENTITY, close, near, of_pass

URL = "/api/v1/models/tiny-gpt2"
PASS = of_pass(dtype=torch.float32)
TEXT = "The cat sat on it."


def asked(client: TestClient, question: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"{URL}/{question}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, question: str, status: int, code: str, **body: Any) -> str:
    response = client.post(f"{URL}/{question}", json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    return error["message"]


def test_repeated_text_is_the_trace_of_the_repeated_text(client: TestClient) -> None:
    found = asked(client, "induction", kind="text", text=TEXT, neurons=["0.3"])
    ids = [1, *tiny.tokenizer()(TEXT, add_special_tokens=False).input_ids * 2]
    assert [token["id"] for token in found["repeat"]["tokens"]] == ids
    assert found["repeat"]["starts"] == [1, 19]
    trace = client.post(f"{URL}/trace", json={"token_ids": ids, "neurons": ["0.3"]}).json()["clean"]
    for name in ("entropy", "ln_scale", "top1_prob", "kl_unigram", "loss"):
        end = -1 if name == "loss" else None  # nothing follows the last token
        assert found["curves"][name]["mean"][:end] == pytest.approx(trace[name][:end], rel=0, abs=PASS), name
        assert found["curves"][name]["low"][:end] == near(found["curves"][name]["high"][:end], 2, dtype=torch.float32)
    assert found["activations"]["0.3"]["mean"] == pytest.approx(trace["activations"]["0.3"], rel=0, abs=PASS)
    assert abs(found["halves"]["entropy"]["first"] - sum(trace["entropy"][1:19]) / 18) < PASS


def test_clip_is_the_trace_with_clip_interventions(client: TestClient) -> None:
    found = asked(client, "induction", kind="text", text=TEXT, clip=["1.4", "1.9"], controls=3)
    clip, ids = found["clip"], [token["id"] for token in found["repeat"]["tokens"]]
    bound = {"at most": "max", "at least": "min"}
    rules = [{"neuron": r["neuron"], "mode": "clip", bound[r["direction"]]: r["m"]} for r in clip["rules"]]
    trace = client.post(f"{URL}/trace", json={"token_ids": ids, "interventions": rules}).json()
    ratio = [b / a for a, b in zip(trace["clean"]["entropy"], trace["intervened"]["entropy"], strict=True)]
    bound = 2 * PASS * max(ratio) / min(trace["clean"]["entropy"])
    assert clip["ratio"]["mean"] == pytest.approx(ratio, rel=0, abs=bound)
    assert abs(clip["repeat_ratio"] - sum(ratio[19:]) / 18) < bound
    assert max(abs(1 - one) for one in ratio) > 4 * bound
    assert len(clip["controls"]) == 3
    assert len(clip["control_ratio"]["mean"]) == len(clip["control_positions"]) == 18
    assert clip["ratio_frozen"] != clip["ratio"]
    points = [point for point in clip["points"] if point["position"] == 20]
    assert abs(points[0]["loss"] - trace["clean"]["loss"][20]) < PASS
    assert points[0]["reciprocal_rank"] == near(1 / (1 + trace["clean"]["rank"][20]), 1, dtype=torch.float32)


def test_ranking_is_sorted_and_seeded(client: TestClient) -> None:
    bodies = {"kind": "random", "rows": 3, "length": 10, "seed": 4}
    one, same, other = (asked(client, "induction", **{**bodies, "seed": seed}) for seed in (4, 4, 5))
    assert one == same
    assert one["ranking"] != other["ranking"]
    sizes = [abs(row["weighted"]) for row in one["ranking"]]
    assert sizes == sorted(sizes, reverse=True)
    assert one["total"] == len(sizes) == 40
    for row in one["ranking"]:
        sizes = (abs(row["second"]) + abs(row["first"])) * row["norm"]
        weighted = (row["second"] - row["first"]) * row["norm"]
        assert row["weighted"] == near(weighted, 4, scale=sizes, dtype=torch.float32)
        assert 0 <= row["rho"] <= 1


def test_natural_rows_come_from_the_sample(client: TestClient) -> None:
    found = asked(client, "induction", rows=2, length=12)["repeat"]
    text = "".join(token["text"] for token in found["tokens"][1:13])
    assert any(text in f"The {word} sat on the mat, and then it left." for word in ("cat", "dog", "gnu"))
    assert found["tokens"][1:13] != found["tokens"][13:25]
    assert [t["id"] for t in found["tokens"][1:13]] == [t["id"] for t in found["tokens"][13:25]]
    assert found["source"] == "sample.jsonl"
    shorter = asked(client, "induction", kind="random", rows=2)["repeat"]
    assert shorter["length"] == 19  # (40 - 1) // 2 of the operator's limit
    assert "99 tokens a copy were asked for; the context of 40 tokens allows 19" in shorter["note"]
    fewer = asked(client, "induction", rows=60, length=12)["repeat"]
    assert fewer["rows"] < 60
    assert f"gives {fewer['rows']} rows" in fewer["note"]


def test_corruption_and_separator_are_where_they_should_be(client: TestClient) -> None:
    body = {"kind": "text", "text": "abcdefgh", "copies": 3, "separator": " / ", "corrupt_at": [2]}
    found = asked(client, "induction", **body)["repeat"]
    assert found["starts"] == [1, 12, 23]
    assert found["changed"] == [14]
    texts = [token["text"] for token in found["tokens"]]
    assert "".join(texts[9:12]) == " / "
    assert texts[14] != "c"
    assert "".join(texts[23:31]) == "abcdefgh"


def test_heads_and_one_pattern(client: TestClient) -> None:
    found = asked(client, "heads", rows=2, pattern="1.2")
    assert [row["head"] for row in found["rows"]] == [f"{layer}.{head}" for layer in range(2) for head in range(4)]
    attention = torch.tensor(found["pattern"]["attention"])
    close(attention.sum(-1), torch.ones(len(attention)), 2 * len(attention))
    queries = torch.arange(found["pattern"]["starts"][1], len(attention))
    one_row = asked(client, "heads", rows=1, pattern="1.2")
    row = next(row for row in one_row["rows"] if row["head"] == "1.2")
    expected = torch.tensor(one_row["pattern"]["attention"])[queries, queries - one_row["length"] + 1].mean()
    assert abs(row["induction"] - float(expected)) < PASS


def test_attribution_adds_up(client: TestClient) -> None:
    found = asked(client, "induction/attribution", kind="text", text=TEXT, neuron="1.7")
    assert found["residual"] < IDENTITY[torch.float32]
    names = {row["component"] for row in found["rows"]}
    assert {"embedding", "0.0", "1.3", "mlp 0", "bias"} <= names
    mean = sum(row["second"] for row in found["rows"])
    assert abs(mean - sum(found["pre"]["mean"][19:37]) / 18) < IDENTITY[torch.float32]


def test_heads_taken_out(client: TestClient) -> None:
    body = {"kind": "text", "text": TEXT, "heads": ["0.1", "1.2"], "neurons": ["1.7"], "random": 1, "queries": 6}
    found = asked(client, "induction/ablation", **body)
    assert [row["role"] for row in found["rows"]] == ["one", "one", "all", "random_one", "random_all"]
    assert found["queries"] == [19, 22, 25, 28, 31, 34]
    for row in found["rows"]:
        by_query = row["by_query"]["1.7"]
        assert row["activation"]["1.7"] == near(
            sum(by_query) / 6, 6, scale=max(map(abs, by_query)), dtype=torch.float32
        )
    assert {m: asked(client, "induction/ablation", **body, mode=m)["mode"] for m in ("zero", "mean")}


def test_a_prompt_without_heads(client: TestClient) -> None:
    ids = tiny.token_ids(8)
    heads = [{"head": "0.1", "positions": [4]}]
    found = asked(client, "trace", token_ids=ids, interventions=heads, neurons=["1.2"], top_k=2)
    clean = client.post(f"{URL}/trace", json={"token_ids": ids, "neurons": ["1.2"], "top_k": 2}).json()["clean"]
    assert found["clean"] == clean
    assert found["intervened"]["entropy"][:4] == pytest.approx(clean["entropy"][:4], rel=0, abs=PASS)
    assert abs(found["intervened"]["entropy"][4] - clean["entropy"][4]) > 2 * PASS
    for code, *wrong in (
        ("no_such_head", {"head": "0.9"}),
        ("position_out_of_range", {"head": "0.1", "positions": [50]}),
        ("overlapping_interventions", {"head": "0.1"}, {"head": "0.1", "mode": "zero", "positions": [1]}),
        ("invalid_request", {"head": "0.1", "mode": "value", "value": 1.0}),
        ("invalid_request", {"head": "0.1", "neuron": "0.1"}),
    ):
        refused(client, "trace", 422, code, text="ab", interventions=wrong)
    both = [{"head": "0.1"}, {"neuron": "0.1", "mode": "zero"}, {"neuron": "1.4", "mode": "zero"}]
    asked(client, "trace", text="ab", interventions=both)  # one number, two things


def test_natural_repeats_of_a_text_that_has_some(make_client: Any, tmp_path: Path) -> None:
    text = tmp_path / "repeats.jsonl"
    text.write_text(json.dumps({"text": "abcdef ghi abcdefx"}) + "\n" + json.dumps({"text": "nothing here"}), "utf-8")
    client = make_client(reference_text=text)
    found = asked(client, "induction/natural", clip=["1.4"])
    (passage,) = found["passages"]
    assert (passage["gram"], passage["continued"], passage["text"]) == ("abcdef", False, "abcdef ghi abcdefx")
    assert len(found["clean"]["first"]["entropy"]["mean"]) == 7
    assert found["clipped"]["second"]["entropy"] != found["clean"]["second"]["entropy"]
    ranked = asked(client, "induction", kind="random", rows=1)
    assert ranked["passages"] == 1
    assert ranked["ranking"][0]["natural"] is not None


def test_natural_repeats_of_ones_own_text(client: TestClient) -> None:
    found = asked(client, "induction/natural", text="abcdef ghi abcdefx")
    (passage,) = found["passages"]
    assert (passage["gram"], found["source"], found["searched"]) == ("abcdef", "your text", 1)
    trace = asked(client, "trace", text="abcdef ghi abcdefx")["clean"]["entropy"]
    for name in ("first", "second"):
        at = passage[name]
        assert found["clean"][name]["entropy"]["mean"] == pytest.approx(trace[at : at + 7], rel=0, abs=PASS)
    assert asked(client, "induction/natural", text="abc")["passages"] == []
    refused(client, "induction/natural", 422, "invalid_request", text="  ")
    refused(client, "induction/natural", 422, "limit_characters", text="a" * 20_001)
    refused(client, "induction", 422, "limit_characters", kind="text", text="a" * 20_001)


def test_a_text_without_repeats_says_so(client: TestClient) -> None:
    found = asked(client, "induction/natural")
    assert found["passages"] == []
    assert found["clean"] is None
    assert found["searched"] > 0


def test_refusals_name_cause_and_numbers(client: TestClient) -> None:
    def induction(status: int, code: str, **body: Any) -> str:
        return refused(client, "induction", status, code, **body)

    assert "65 rows; at most 64" in induction(422, "limit_rows", rows=65)
    assert "50 tokens" in induction(422, "repeat_too_long", kind="text", text="x" * 50)
    assert "not in the last layer" in induction(422, "not_last_layer", kind="random", clip=["0.1"])
    induction(404, "no_such_neuron", kind="random", neurons=["7.1"])
    induction(422, "position_out_of_range", kind="text", text="abcdef", corrupt_at=[6])
    for body in ({"kind": "text"}, {"text": "a"}, {"copies": 9}, {"corrupt": 1, "corrupt_at": [1]}, {"nope": 1}):
        induction(422, "invalid_request", **body)
    assert "no head 9.0" in refused(client, "heads", 422, "no_such_head", pattern="9.0")
    refused(client, "induction/attribution", 422, "not_last_layer", neuron="0.0", kind="random")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("induction", {"rows": 3, "length": 8, "controls": 0}),
        ("heads", {"rows": 3, "length": 8}),
        ("induction/attribution", {"rows": 3, "length": 8, "neuron": "1.3"}),
        ("induction/ablation", {"rows": 3, "length": 8, "heads": ["1.0"], "neurons": ["1.3"], "random": 0}),
    ],
)
def test_provenance_has_every_row_that_was_run(client: TestClient, path: str, body: dict[str, object]) -> None:
    answer = client.post(f"/api/v1/models/tiny-gpt2/{path}", json=body)
    assert answer.status_code == 200, answer.text
    provenance = answer.json()["provenance"]
    assert len(provenance["rows"]) == 3
    assert provenance["rows"][0] == provenance["token_ids"]
    assert len({tuple(row) for row in provenance["rows"]}) > 1
