"""The API of DESIGN section 5: names, rules, and the numbers against plain transformers and real hooked passes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from analysis.kernels.arithmetic import Form, Function
from analysis.kernels.compiled import Compiled, Forms
from tests import tiny
from tests.tolerance import EFFECT, IDENTITY, LOG_PROB, LOGIT, near, of_logits, of_sum

KEY = "tiny-gpt2"
URL = f"/api/v1/models/{KEY}"
IDS = tiny.token_ids(12)
HOSTILE = [
    "<script>alert(1)</script>",
    "<b>&amp;</b> <extra></extra>",
    "\u202eabc\u202c",
    "a\x00b",
    "\x1b[2J",
    "e\u0301\u200b🦊",
]


def trace(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post(f"{URL}/trace?store=true", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def effects(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post(f"{URL}/effects", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, status: int, code: str, url: str = f"{URL}/trace", **body: Any) -> str:
    response = client.post(url, json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == code
    return error["message"]


@pytest.fixture(scope="module")
def own_log_probs(model_folder: Path) -> torch.Tensor:
    """transformers by itself, without any of our code."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, trust_remote_code=False)
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0].log_softmax(-1)


# models


def test_models_are_described_with_everything_that_the_contract_names(client: TestClient) -> None:
    (row,) = client.get("/api/v1/models").json()["models"]
    assert client.get(URL).json() == row
    assert (row["key"], row["loaded"], row["norm"]) == (KEY, True, "LN")
    assert (row["d_model"], row["n_layers"], row["d_mlp"]) == (24, 2, 40)
    assert (row["d_vocab"], row["n_ctx"], row["max_tokens"]) == (tiny.D_VOCAB, tiny.N_CTX, 40)
    assert (row["device"], row["dtype"], row["mean"]) == ("cpu", "float32", "ready")
    assert len(row["weights_sha256"]) == 64
    assert row["bytes_needed"] > row["bytes_on_disk"] > 0
    assert client.get("/api/v1/models/nope").json()["error"]["code"] == "unknown_model"


# trace


def test_clean_numbers_are_those_of_transformers(client: TestClient, own_log_probs: torch.Tensor) -> None:
    run = trace(client, token_ids=IDS, top_k=3)["clean"]
    probs = own_log_probs.exp()
    entropy = -(probs * own_log_probs).sum(-1)
    loss = -own_log_probs[torch.arange(11), IDS[1:]]
    for found, expected in (
        (run["entropy"], entropy),
        (run["loss"][:-1], loss),
        (run["top1_prob"], probs.amax(-1)),
    ):
        assert found == pytest.approx(expected.tolist(), rel=0, abs=IDENTITY[torch.float32])
    assert run["loss"][-1] is None
    assert run["rank"][-1] is None
    assert run["rank"][:-1] == [(own_log_probs[t] > own_log_probs[t, IDS[t + 1]]).sum().item() for t in range(11)]
    for t, top in enumerate(run["top"]):
        assert [item["id"] for item in top] == own_log_probs[t].topk(3).indices.tolist()
        assert all(math.log(item["prob"]) == near(item["logprob"], 2, scale=LOG_PROB) for item in top)


def test_every_array_has_one_number_a_token(client: TestClient) -> None:
    answer = trace(client, token_ids=IDS, neurons=["0.3", "1.5"], interventions=[{"neuron": "0.3", "mode": "zero"}])
    assert [token["id"] for token in answer["tokens"]] == IDS
    assert [token["position"] for token in answer["tokens"]] == list(range(12))
    for run in (answer["clean"], answer["intervened"]):
        assert set(run["activations"]) == {"0.3", "1.5"}
        for name in ("entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank", "top"):
            assert len(run[name]) == 12
    assert answer["intervened"]["activations"]["0.3"] == [0.0] * 12
    assert answer["intervened"]["entropy"] != answer["clean"]["entropy"]
    assert answer["permalink"] == "/r/" + answer["provenance"]["request_sha256"]
    assert answer["provenance"]["token_ids"] == IDS


def test_without_interventions_there_is_no_second_run(client: TestClient) -> None:
    assert trace(client, token_ids=IDS)["intervened"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mode": "value", "value": 1.25}, lambda n: [1.25] * 12),
        ({"mode": "zero"}, lambda n: [0.0] * 12),
        ({"mode": "scale", "value": -2}, lambda n: [-2 * value for value in n]),
        ({"mode": "clip", "min": 0.0, "max": 0.1}, lambda n: [min(max(value, 0.0), 0.1) for value in n]),
        ({"mode": "zero", "positions": [2, 5]}, lambda n: [0.0 if t in (2, 5) else n[t] for t in range(12)]),
        (
            {"mode": "zero", "positions": {"start": 2, "stop": 5}},
            lambda n: [0.0 if 2 <= t < 5 else n[t] for t in range(12)],
        ),
    ],
)
@pytest.mark.parametrize("neuron", ["0.7", "1.7"])
def test_each_mode_does_to_the_neuron_what_it_says(client: TestClient, neuron: str, change: Any, expected: Any) -> None:
    answer = trace(client, token_ids=IDS, neurons=[neuron], interventions=[{"neuron": neuron, **change}])
    clean, changed = (answer[run]["activations"][neuron] for run in ("clean", "intervened"))
    assert changed == near(expected(clean), tiny.D_MODEL, scale=LOGIT, dtype=torch.float32)


def test_the_mean_baseline_names_its_text(client: TestClient) -> None:
    answer = trace(client, token_ids=IDS, neurons=["1.7"], interventions=[{"neuron": "1.7", "mode": "mean"}])
    assert "sample.jsonl" in answer["provenance"]["baseline"]
    assert len(set(answer["intervened"]["activations"]["1.7"])) == 1


def test_bos_rules(client: TestClient) -> None:
    def ids(**body: Any) -> list[int]:
        return trace(client, **body)["provenance"]["token_ids"]

    assert ids(text="ab") == ids(text="ab", prepend_bos=False)  # this tokenizer has no habit of its own
    assert ids(text="ab", prepend_bos=True) == [1, *ids(text="ab")]
    assert ids(token_ids=[5, 6]) == [5, 6]
    assert ids(token_ids=[5, 6], prepend_bos=True) == [1, 5, 6]
    assert ids(token_ids=[1, 5, 6], prepend_bos=True) == [1, 5, 6]  # never two


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_as_it_is_and_as_json(client: TestClient, text: str) -> None:
    response = client.post(f"{URL}/trace", json={"text": text[:30]})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    n_tokens = client.post(f"{URL}/tokens", json={"text": text[:30]}).json()["n_tokens"]
    assert len(response.json()["tokens"]) == n_tokens


NOT_UTF8, HALF_A_PAIR, DEEP = b'{"text": "\xff\xfe"}', b'{"text": "\\ud800"}', b"[" * 100_000


@pytest.mark.parametrize(
    "body", [NOT_UTF8, HALF_A_PAIR, b'{"\\ud800": 1}', DEEP, b"{", b"[]", b"null", b'{"text": NaN}'], ids=range(8)
)
def test_broken_bodies_are_4xx_in_the_one_shape(client: TestClient, body: bytes) -> None:
    response = client.post(f"{URL}/trace", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert set(response.json()["error"]) == {"code", "message", "hint"}


def test_refusals_name_their_cause(client: TestClient) -> None:
    two = [{"neuron": "1.3", "mode": "zero"}, {"neuron": "1.3", "mode": "zero", "positions": [2]}]
    assert "1.3" in refused(client, 422, "overlapping_interventions", token_ids=IDS, interventions=two)
    assert "empty" in refused(client, 422, "invalid_request", text="")
    assert "one of text" in refused(client, 422, "invalid_request", text="a", token_ids=[1])
    assert "264" in refused(client, 422, "unknown_token", token_ids=[264])
    refused(client, 422, "unknown_token", url=f"{URL}/tokens", token_ids=[264])
    refused(client, 422, "unknown_token", token_ids=[10**30])
    refused(client, 404, "no_such_neuron", token_ids=IDS, neurons=["2.0"])
    refused(client, 404, "no_such_neuron", token_ids=IDS, interventions=[{"neuron": "0.40", "mode": "zero"}])
    outside = [{"neuron": "1.3", "mode": "zero", "positions": [12]}]
    refused(client, 422, "position_out_of_range", token_ids=IDS, interventions=outside)
    assert "nope" in refused(client, 404, "unknown_model", url="/api/v1/models/nope/trace", text="a")


def test_limits_name_both_numbers(client: TestClient) -> None:
    message = refused(client, 422, "limit_tokens", token_ids=[5] * 41)
    assert "41" in message
    assert "40" in message
    assert "41" in refused(client, 422, "limit_tokens", text="a" * 40, prepend_bos=True)
    assert "20001" in refused(client, 422, "limit_characters", text="a" * 20_001)
    assert "20" in refused(client, 422, "limit_top_k", text="a", top_k=21)
    assert "257" in refused(client, 422, "limit_neurons", text="a", neurons=["0.1"] * 257)
    many = [{"neuron": f"0.{index % 40}", "mode": "zero", "positions": [index // 40]} for index in range(65)]
    assert "65" in refused(client, 422, "limit_interventions", token_ids=IDS, interventions=many)


# tokens


def test_the_live_count_counts_beyond_the_limit(client: TestClient) -> None:
    answer = client.post(f"{URL}/tokens", json={"text": "a" * 50}).json()
    assert (answer["n_tokens"], answer["max_tokens"]) == (50, 40)


# effects


def test_effects_are_those_of_hooked_passes(client: TestClient, model_folder: Path) -> None:
    """The slow way: one real forward pass a neuron."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder, trust_remote_code=False)
    position, wanted = 6, [3, 17, 39]
    answer = effects(client, token_ids=IDS, position=position, baseline=0.5, limit=1000)
    rows = {row["neuron"]: row for row in answer["rows"]}
    assert len(rows) == 40

    def log_probs(neuron: int | None) -> torch.Tensor:
        def ablate(module: Any, args: Any) -> Any:
            changed = args[0].clone()
            changed[:, position, neuron] = 0.5
            return (changed,)

        handle = model.transformer.h[1].mlp.c_proj.register_forward_pre_hook(ablate) if neuron is not None else None
        with torch.inference_mode():
            out = model(torch.tensor([IDS])).logits[0, position].double().log_softmax(-1)
        if handle:
            handle.remove()
        return out

    clean = log_probs(None)
    entropy = float(-(clean.exp() * clean).sum())
    assert answer["clean"]["entropy"] == pytest.approx(entropy, rel=0, abs=IDENTITY[torch.float32])
    bound = EFFECT + 2 * of_logits(torch.float32)  # ours, and what transformers makes of two passes
    for neuron in wanted:
        changed, row = log_probs(neuron), rows[f"1.{neuron}"]
        assert abs(row["d_entropy"]["total"] + float((changed.exp() * changed).sum()) + entropy) < bound
        assert abs(row["d_loss"]["total"] - float(clean[IDS[7]] - changed[IDS[7]])) < bound
        assert row["top1_changes"] == bool(clean.argmax() != changed.argmax())
        assert row["baseline"] == 0.5


def test_parts_add_up_and_are_there_for_every_metric(client: TestClient) -> None:
    answer = effects(client, token_ids=IDS, position=3, baseline="zero")
    for row in answer["rows"]:
        for metric in ("d_entropy", "d_loss", "d_kl_unigram"):
            parts = row[metric]
            assert set(parts) == {"total", "direct", "mlp_norm", "ln_mediated", "ln_only", "frequency_mediated"}
            assert parts["mlp_norm"] is None  # no norm stands behind this model's MLP
            whole = parts["direct"] + parts["ln_mediated"]
            assert parts["total"] == near(whole, 2, scale=LOG_PROB, dtype=torch.float32)
        assert row["ln_scale_before"] == near(answer["clean"]["ln_scale"], tiny.D_MODEL, dtype=torch.float32)


def test_at_the_last_position_there_is_no_loss(client: TestClient) -> None:
    answer = effects(client, token_ids=IDS, baseline="zero", limit=3)
    assert answer["clean"]["position"] == 11
    assert answer["clean"]["next_token"] is None
    assert all(value is None for row in answer["rows"] for value in row["d_loss"].values())


def test_sorting_filters_and_pages(client: TestClient) -> None:
    def column(**body: Any) -> list[Any]:
        rows = effects(client, token_ids=IDS, position=3, baseline="zero", limit=1000, **body)["rows"]
        return [row["d_entropy"]["total"] for row in rows]

    totals = column()
    assert [abs(total) for total in totals] == sorted(map(abs, totals), reverse=True)
    assert column(order="desc") == sorted(totals, reverse=True)
    assert column(order="asc") == sorted(totals)
    middle = sorted(totals)[20]
    assert column(**{"min_d_entropy.total": middle}) == [total for total in totals if total >= middle]
    page = effects(client, token_ids=IDS, position=3, baseline="zero", offset=10, limit=7)
    assert page["total"] == 40
    assert [row["d_entropy"]["total"] for row in page["rows"]] == totals[10:17]
    assert effects(client, token_ids=IDS, position=3, baseline="zero", offset=40)["rows"] == []
    by_neuron = effects(client, token_ids=IDS, position=3, baseline="zero", sort="neuron", order="asc", limit=1000)
    assert [row["neuron"] for row in by_neuron["rows"]] == [f"1.{index}" for index in range(40)]


def test_null_columns_sort_last_and_pass_no_bound(client: TestClient) -> None:
    body = {"token_ids": IDS, "baseline": "zero", "sort": "d_loss.total"}  # the last position: all null
    assert [row["neuron"] for row in effects(client, **body, limit=3)["rows"]] == ["1.0", "1.1", "1.2"]
    assert effects(client, **body, **{"min_d_loss.total": -1e9})["total"] == 0


def test_temperatures_are_the_same_whether_or_not_they_are_sorted_by(client: TestClient) -> None:
    body = {"token_ids": IDS, "position": 3, "baseline": "zero", "limit": 1000}
    plain = {row["neuron"]: row for row in effects(client, **body)["rows"]}
    for row in effects(client, **body, sort="temperature_share", order="desc")["rows"]:
        # A minimum is flat: it lies where rounding of a divergence (in float64) leaves it. The log-probabilities have a
        # variance of more than 0.1.
        flat = (2 * of_sum(tiny.D_VOCAB, scale=LOG_PROB) / 0.1) ** 0.5
        assert row["temperature"] == pytest.approx(plain[row["neuron"]]["temperature"], rel=flat)
        assert row["temperature_share"] is None or row["temperature_share"] <= 1
        if row["temperature_share"] is not None:
            assert abs(row["temperature_kl"] - (1 - row["temperature_share"]) * row["kl"]) < EFFECT
            assert row["temperature_kl"] >= -of_sum(tiny.D_VOCAB, scale=LOG_PROB)


def test_baselines(client: TestClient) -> None:
    def baselines(baseline: Any) -> tuple[list[float], str]:
        answer = effects(client, token_ids=IDS, baseline=baseline, sort="neuron", order="asc", limit=1000)
        return [row["baseline"] for row in answer["rows"]], answer["provenance"]["baseline"]

    assert baselines("zero") == ([0.0] * 40, "zero")
    assert baselines(1.5) == ([1.5] * 40, "value 1.5")
    prompt_mean, name = baselines("prompt_mean")
    activations = trace(client, token_ids=IDS, neurons=["1.3"])["clean"]["activations"]["1.3"]
    assert prompt_mean[3] == near(sum(activations) / 12, 12, scale=LOGIT, dtype=torch.float32)
    assert "prompt" in name
    assert "sample.jsonl" in baselines("mean")[1]


def test_effects_refuse_other_layers_and_positions(client: TestClient) -> None:
    url = f"{URL}/effects"
    assert "0.3" in refused(client, 422, "not_last_layer", url=url, token_ids=IDS, neurons=["0.3"])
    refused(client, 422, "position_out_of_range", url=url, token_ids=IDS, position=12)
    refused(client, 422, "position_out_of_range", url=url, token_ids=IDS, position=10**30)
    refused(client, 404, "no_such_neuron", url=url, token_ids=IDS, neurons=["1.40"])


def test_named_neurons_only_and_each_once(client: TestClient) -> None:
    answer = effects(client, token_ids=IDS, neurons=["1.3", "1.9", "1.3"], baseline="zero")
    assert answer["total"] == 2
    assert {row["neuron"] for row in answer["rows"]} == {"1.3", "1.9"}


# one shape, no NaN


def test_answers_are_strict_json(client: TestClient) -> None:
    for path, body in (("trace", {"token_ids": IDS[:1]}), ("effects", {"token_ids": IDS[:1], "baseline": "zero"})):
        text = client.post(f"{URL}/{path}", json=body).text
        json.loads(text, parse_constant=pytest.fail)


def test_equal_requests_have_one_identity_by_text_and_by_ids(client: TestClient) -> None:
    by_text = trace(client, text="abc", prepend_bos=True)["provenance"]
    by_ids = trace(client, token_ids=by_text["token_ids"])["provenance"]
    assert by_text["request_sha256"] == by_ids["request_sha256"]
    assert by_text["request_sha256"] != trace(client, text="abd", prepend_bos=True)["provenance"]["request_sha256"]


def test_errors_of_routing_have_the_same_shape(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/api/v1/nope", 404),
        ("DELETE", "/api/v1/models", 405),
        ("GET", f"{URL}/trace", 405),
    ):
        response = client.request(method, path)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"code", "message", "hint"}


def test_the_live_check_holds(client: TestClient) -> None:
    answer = client.get(f"{URL}/check").json()
    assert answer["holds"]
    assert {row["name"] for row in answer["rows"]} >= {"logits", "closed_form", "frozen_scale"}
    assert (answer["kernels"], answer["kernels_note"]) == ("eager", None)


def test_kernels_that_failed_are_named_by_the_check_and_the_answers_stand(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(form: Form) -> Function:
        raise RuntimeError("no such header")

    monkeypatch.setattr("analysis.kernels.choice.has_compiler", lambda: True)
    forms = Forms(broken)
    monkeypatch.setattr("analysis.kernels.choice.Compiled", lambda wait: Compiled(wait=True, forms=forms))
    client = make_client(effects_backend="compiled")
    body = {"text": "The cat sat.", "part": "frequency_mediated"}
    rows = {"compiled": client.post(f"{URL}/heatmap", json=body)}
    answer = client.get(f"{URL}/check").json()
    assert answer["holds"]
    assert answer["kernels"] == "compiled"
    said = "The slower eager kernels answer where compiled ones failed: RuntimeError: no such header"
    assert answer["kernels_note"] == said
    assert said in client.get("/selfcheck").text
    rows["eager"] = make_client(data_dir=tmp_path / "other").post(f"{URL}/heatmap", json=body)
    assert rows["compiled"].status_code == 200
    assert rows["compiled"].json()["rows"] == rows["eager"].json()["rows"]
