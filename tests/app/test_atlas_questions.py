"""What the atlas' pages ask besides the table (a neuron on a text, the null space's shares, the walk, frequency on a
text, comparison): page, API, shell and client give one answer, and it is the definition's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from app.core.request import PromptRequest
from app.core.residency.host import ModelHost
from app.neuron import answer as work
from app.neuron.view import Live
from tests import tiny
from tests.app.conftest import with_checkpoint
from tests.tolerance import EFFECT, near, of_pass

API = "/api/v1/models/tiny-gpt2"
TEXT = "The cat sat on the mat"
PASS = of_pass(dtype=torch.float32)


def ask(client: TestClient, path: str, body: dict[str, Any] | None = None, **query: Any) -> Any:
    response = client.post(f"{API}/{path}", json=body) if body else client.get(f"{API}/{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def page(client: TestClient, path: str, **query: Any) -> Any:
    response = client.get(path, params={"format": "json", **query})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def shell(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("NULLSCOPE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NULLSCOPE_MAX_TOKENS", "40")  # as the client's: rows of the sample are no longer than that

    def run(*args: str, code: int = 0) -> str:
        on_model = () if args[0] == "compare" else ("--model", str(model_folder))
        result = CliRunner().invoke(main, [*args, *on_model])
        assert result.exit_code == code, result.output
        return result.output

    return run


def model_of(client: TestClient) -> Any:
    host: ModelHost = client.app.state.host  # type: ignore[attr-defined]
    return host.entry("tiny-gpt2").replicas[0][1].model


@pytest.fixture
def trained(model_folder: Path, tmp_path: Path) -> Path:
    """The model with a checkpoint of itself at half the norm, after 1200 tokens."""
    return with_checkpoint(model_folder, tmp_path / "trained")


def test_a_neuron_on_a_text(client: TestClient, shell: Callable[..., str]) -> None:
    assert client.get(f"{API}/neurons").status_code == 200  # the atlas is there: a page waits for it for a moment only
    for name in ("1.7", "0.3"):
        told = ask(client, f"neurons/{name}", {"text": TEXT})
        assert page(client, f"/m/tiny-gpt2/n/{name}", text=TEXT)["live"] == told
        assert json.loads(shell("neuron", name, TEXT, "--json")) == told
        ids = told["provenance"]["token_ids"]
        run = ask(client, "trace", {"token_ids": ids, "neurons": [name]})
        assert told["activation"] == pytest.approx(run["clean"]["activations"][name], rel=0, abs=PASS)
    assert "held at" in shell("neuron", "1.7", TEXT)
    two = [ask(client, f"neurons/{name}", {"text": TEXT})["provenance"]["request_sha256"] for name in ("1.7", "1.8")]
    assert two[0] != two[1]


def test_a_neuron_on_a_text_longer_than_the_sample_s_rows(client: TestClient) -> None:
    """The limit is the server's own, and it is said; nothing is cut off in silence."""
    ids = [1 + i % 20 for i in range(40)]
    assert len(ask(client, "neurons/1.7", {"token_ids": ids})["tokens"]) == len(ids)
    refused = client.post(f"{API}/neurons/1.7", json={"token_ids": [*ids, 1]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "limit_tokens")


def test_a_neuron_on_a_text_lets_others_in_between_its_passes(client: TestClient) -> None:
    host: ModelHost = client.app.state.host  # type: ignore[attr-defined]
    resident = host.entry("tiny-gpt2").replicas[0][1]
    with torch.inference_mode():
        *steps, view = work.live(resident, PromptRequest(text=TEXT), neuron="1.7")  # type: ignore[arg-type]
    assert steps == [*range(1, len(work.CLAMPS) + 2)]
    assert isinstance(view, Live)


def test_a_neuron_over_the_sample(client: TestClient, shell: Callable[..., str]) -> None:
    told = ask(client, "neurons/1.7/sample")
    assert page(client, "/m/tiny-gpt2/n/1.7")["sample"] == told
    assert json.loads(shell("neuron", "1.7", "--sample", "--json")) == told
    assert "raises entropy" in shell("neuron", "1.7", "--sample")
    assert client.get(f"{API}/neurons/1.40/sample").status_code == 404
    assert "is not a neuron" in shell("neuron", "1.7/sample", code=2)
    assert "not both" in shell("neuron", "1.7", TEXT, "--sample", code=2)


def test_shares_of_the_null_space(client: TestClient, shell: Callable[..., str]) -> None:
    told = ask(client, "nullspace", k=5, layer=0)
    shown = page(client, "/nullspace", k=5, layer=0)
    for part in ("rho", "layer", "neurons_above", "heads", "embeddings"):
        assert told[part] == shown[part]
    assert json.loads(shell("nullspace", "--k", "5", "--layer", "0", "--json")) == told
    assert f"{max(told['rho']):.5g}" in shell("nullspace", "--k", "5", "--layer", "0").splitlines()[1]
    model = model_of(client)
    W_U = model.readout.W_U.double()
    basis = torch.linalg.svd(W_U, full_matrices=True).U[:, -5:]
    head = model.readout.centre(model.W_O(1)[0].double())
    share = float(((head @ basis) ** 2).sum() / (head**2).sum())
    assert told["heads"][1][0] == near(share, tiny.D_MODEL, scale=1, dtype=torch.float32)
    assert client.get(f"{API}/nullspace", params={"layer": 2}).status_code == 404


def test_the_walk_is_a_real_forward_pass(client: TestClient, shell: Callable[..., str]) -> None:
    """Against the transformers model with a residual stream that a torch hook has moved."""
    told = ask(client, "walk", {"text": TEXT, "direction": 3, "reach": 2})
    shown = page(client, "/nullspace", text=TEXT, direction=3, reach=2)["walk"]
    assert shown == {name: value for name, value in told.items() if name != "provenance"}
    assert json.loads(shell("walk", TEXT, "-d", "3", "--reach", "2", "--json")) == told
    assert "singular value" in shell("walk", TEXT, "-d", "3")
    assert told["provenance"]["token_ids"][-1] == told["token"]["id"]
    readout = model_of(client).readout
    unit = torch.linalg.svd(readout.W_U.double()).U[:, 3].float()
    hf = tiny.hf_model("gpt2", dtype=torch.float32)
    reached = []
    for sign in (1.0, -1.0):

        def move(module: Any, args: tuple[torch.Tensor], sign: float = sign) -> tuple[torch.Tensor]:
            resid = args[0].clone()
            resid[0, -1] += sign * 2 * (resid[0, -1] - resid[0, -1].mean()).norm() * unit
            return (resid,)

        hook = hf.transformer.ln_f.register_forward_pre_hook(move)
        with torch.inference_mode():
            logits = hf(torch.tensor([told["provenance"]["token_ids"]])).logits[0, -1, : readout.d_vocab]
        hook.remove()
        log_p = logits.double().log_softmax(-1)
        reached.append(float(-(log_p.exp() * log_p).sum()))
    ends = [told["entropy"][-1], told["entropy"][0]]
    # U has no sign.
    assert any(ends == pytest.approx(either, rel=0, abs=PASS) for either in (reached, reached[::-1]))


@pytest.mark.parametrize(("body", "code"), [({"direction": 24}, "no_such_direction"), ({"reach": 0}, "invalid")])
def test_a_walk_that_leads_nowhere(client: TestClient, body: dict[str, Any], code: str) -> None:
    refused = client.post(f"{API}/walk", json={"text": TEXT, **body})
    assert refused.status_code == 422
    assert code in refused.json()["error"]["code"]


def test_frequency_on_a_text(client: TestClient, shell: Callable[..., str]) -> None:
    told = ask(client, "frequency", {"text": TEXT, "neuron": "1.4"})
    shown = page(client, "/frequency", text=TEXT, neuron="1.4")
    assert (shown["prompt"], shown["shift"]) == (told["prompt"], told["shift"])
    assert json.loads(shell("frequency", TEXT, "-n", "1.4", "--json")) == told
    assert "1.4 ablated at token" in shell("frequency", TEXT, "-n", "1.4")
    ids = told["provenance"]["token_ids"]
    run = ask(client, "trace", {"token_ids": ids})["clean"]
    assert told["prompt"]["kl_unigram"] == pytest.approx(run["kl_unigram"], rel=0, abs=PASS)
    at = told["shift"]["token"]["position"]
    row = ask(client, "effects", {"token_ids": ids, "position": at, "neurons": ["1.4"]})["rows"][0]
    assert abs(told["shift"]["d_kl_unigram"] - row["d_kl_unigram"]["total"]) < 2 * EFFECT
    most = ask(client, "frequency", {"text": TEXT})["shift"]["neuron"]
    assert most == page(client, "/frequency")["shift"]["neuron"]
    assert "need a TEXT" in shell("frequency", "-n", "1.4", code=2)
    elsewhere = ask(client, "frequency", {"text": TEXT, "neuron": "1.4", "position": 1})
    assert elsewhere["shift"]["token"]["position"] == 1
    assert page(client, "/frequency", text=TEXT, neuron="1.4", pos="1")["shift"] == elsewhere["shift"]
    assert "ablated at token 1 " in shell("frequency", TEXT, "-n", "1.4", "-p", "1")
    refused = client.post(f"{API}/frequency", json={"text": TEXT, "position": 99})
    assert refused.json()["error"]["code"] == "position_out_of_range"


def test_the_summary_of_the_frequency_page_is_the_apis(client: TestClient) -> None:
    told = ask(client, "frequency")
    assert page(client, "/frequency")["summary"] == told
    assert all(told[part] for part in ("ranks", "rows", "bias"))
    assert len(told["alignment"]["neurons"]) == 40


def test_frequency_without_counts(make_client: Callable[..., TestClient], model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "tiny-gpt2")
    (folder / "unigrams.npy").unlink()
    refused = make_client(models=(str(folder),)).post(f"{API}/frequency", json={"text": TEXT})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_counts")
    assert "nullscope count" in refused.json()["error"]["hint"]


def test_comparison_of_a_model_with_its_checkpoint(
    make_client: Callable[..., TestClient], trained: Path, shell: Callable[..., str]
) -> None:
    client = make_client(models=(str(trained),))
    query = {"a": "trained", "b": "trained@1200", "k": 5}
    told = client.get("/api/v1/compare", params=query | {"training": True}).json()
    shown = page(client, "/compare", **query)
    for part in ("sides", "training", "names", "model"):
        assert told[part] == shown[part]
    now, then = told["sides"]
    assert then["norm"] == near([value / 2 for value in now["norm"]], tiny.D_MODEL, dtype=torch.float32)
    S = client.get("/api/v1/models/trained/spectrum").json()["singular_values"]
    turned = S[0] / (S[-6] - S[-5])  # a null space turns by the rounding of the spectrum over the gap that bounds it
    assert then["rho"] == near(now["rho"], tiny.D_MODEL, scale=turned, dtype=torch.float32)
    assert [moment["tokens"] for moment in told["training"]["moments"]] == [1200, None]
    assert client.get("/api/v1/compare", params=query).json()["training"] is None
    args = ("compare", str(trained), f"{trained}@1200", "--k", "5", "--training")
    found = json.loads(shell(*args, "--json"))
    assert [found[part] for part in ("sides", "training")] == [told[part] for part in ("sides", "training")]
    said = shell(*args)
    assert "trained@1200" in said.splitlines()[0]
    assert "finished" in said


def test_comparison_of_two_models(shell: Callable[..., str], trained: Path, model_folder: Path) -> None:
    found = json.loads(shell("compare", str(model_folder), str(trained), "--json"))
    a, b = found["sides"]
    assert (a["name"], b["name"]) == ("tiny-gpt2", "trained")
    assert a["norm"] == b["norm"]


@pytest.mark.parametrize(
    ("second", "said"),
    [("@7", "no checkpoint at 7 tokens. There are: 1200."), ("@x", "not a side"), ("-none", "trained-none")],
)
def test_a_side_that_is_not_there(shell: Callable[..., str], trained: Path, second: str, said: str) -> None:
    assert said in shell("compare", str(trained), f"{trained}{second}", code=2)
