"""Page and API show the same numbers, token by token: both are renderings of one answer (the shell: test_cli)."""

from typing import Any

from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main

URL = "/api/v1/models/tiny-gpt2"
TEXT = "The dog sat, <b>and</b>\nleft."


def page(client: TestClient, **fields: Any) -> dict[str, Any]:
    response = client.post("/?format=json", data={"model": "tiny-gpt2", "text": TEXT, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_trace_of_the_page_is_the_trace_of_the_api(client: TestClient) -> None:
    shown = page(client, do="0.3:zero 1.5:value=2", watch="1.5")["trace"]
    body = {
        "text": TEXT,
        "neurons": ["1.5"],
        "interventions": [{"neuron": "0.3", "mode": "zero"}, {"neuron": "1.5", "mode": "value", "value": 2}],
        "top_k": len(shown["clean"]["top"][0]),
    }
    told = client.post(f"{URL}/trace", json=body).json()
    for part in ("tokens", "clean"):
        assert shown[part] == told[part]
    for name in ("entropy", "loss", "ln_scale", "kl_unigram", "top1_prob", "rank"):
        assert shown["intervened"][name] == told["intervened"][name]


def test_the_switch_of_the_page_is_the_switch_of_the_api(client: TestClient) -> None:
    shown = page(client, ln="median", pos=4, do="1.5:zero")
    body = {"text": TEXT, "ln_scale": "median"}
    told = client.post(f"{URL}/trace", json={**body, "interventions": [{"neuron": "1.5", "mode": "zero"}]}).json()
    assert shown["trace"]["ln_scale"] == told["ln_scale"] > 0
    assert shown["trace"]["intervened"]["entropy"] == told["intervened"]["entropy"]
    table = client.post(f"{URL}/effects", json={**body, "position": 4, "limit": len(shown["effects"]["rows"])}).json()
    assert shown["effects"]["rows"] == table["rows"]
    html = client.post("/", data={"model": "tiny-gpt2", "text": TEXT, "ln": "2.5"}).text
    assert "LayerNorm is off." in html
    assert '<option value="2.5" selected>' in html
    refused = client.post("/", data={"model": "tiny-gpt2", "text": TEXT, "ln": "<b>"})
    assert refused.status_code == 422
    assert "&lt;b&gt;" in refused.text
    assert '"<b>"' not in refused.text


def test_the_neuron_table_of_the_page_is_the_effects_of_the_api(client: TestClient) -> None:
    shown = page(client, pos=4, baseline="zero")["effects"]
    body = {"text": TEXT, "position": 4, "baseline": "zero", "limit": len(shown["rows"])}
    told = client.post(f"{URL}/effects", json=body).json()
    assert shown["rows"] == told["rows"]
    assert shown["clean"] == told["clean"]


STATE = ("models", "results", "notes", "lists", "pins", "export", "import", "queue", "jobs", "corpora")
COMMANDS_OF = {
    "/compare": ["compare"],
    "/models/{key}/tokens": ["trace"],
    "/models/{key}/trace": ["trace"],
    "/models/{key}/check": ["check"],
    "/models/{key}/effects": ["effects"],
    "/models/{key}/heatmap": ["heatmap"],
    "/models/{key}/joint": ["joint"],
    "/models/{key}/dose": ["dose"],
    "/models/{key}/ledger": ["ledger"],
    "/models/{key}/lens": ["lens"],
    "/models/{key}/why": ["why"],
    "/models/{key}/circuit": ["circuit"],
    "/models/{key}/generate": ["generate"],
    "/models/{key}/dial": ["dial"],
    "/models/{key}/why/text": ["why-text"],
    "/models/{key}/why/compare": ["why-compare"],
    "/models/{key}/neurons": ["neurons"],
    "/models/{key}/neurons/{neuron}": ["neuron"],
    "/models/{key}/neurons/{neuron}/sample": ["neuron", "--sample"],
    "/models/{key}/spectrum": ["spectrum"],
    "/models/{key}/story": ["story"],
    "/models/{key}/nullspace": ["nullspace"],
    "/models/{key}/walk": ["walk"],
    "/models/{key}/frequency": ["frequency"],
    "/models/{key}/reproduce": ["reproduce"],
    "/models/{key}/reference": ["models", "--reference"],
    "/models/{key}/induction": ["induction"],
    "/models/{key}/heads": ["induction", "--heads"],
    "/models/{key}/induction/attribution": ["induction", "--who"],
    "/models/{key}/induction/ablation": ["induction", "--ablate"],
    "/models/{key}/induction/natural": ["induction", "--natural-repeats"],
    "/sweeps": ["sweep", "run"],
    "/sweeps/estimate": ["sweep", "estimate"],
    "/sweeps/compare": ["sweep", "compare"],
    "/sweeps/{sweep_id}": ["sweep", "export"],
    "/sweeps/{sweep_id}/resume": ["sweep", "resume"],
    "/sweeps/{sweep_id}/figures/{name}": ["sweep", "figures"],
    "/sweeps/{sweep_id}/neurons/{neuron}": ["sweep", "neuron"],
    "/sweeps/{sweep_id}/calibration": ["sweep", "calibration"],
}


def test_every_number_of_the_api_has_a_command(client: TestClient) -> None:
    """What is left out is state of a server (people's notes, jobs, cancelling), not a number of a model."""
    paths = {path.removeprefix("/api/v1") for path in client.get("/api/v1/openapi.json").json()["paths"]}
    numbers = {
        path for path in paths
        if path.split("/")[1] not in (*STATE, "healthz", "readyz", "metrics") or path.startswith("/models/{key}/")
        if "jobs" not in path and not path.endswith("/cancel")
    }  # fmt: skip
    assert numbers == set(COMMANDS_OF)
    for command in COMMANDS_OF.values():
        words = [word for word in command if not word.startswith("--")]
        said = CliRunner().invoke(main, [*words, "--help"])
        assert said.exit_code == 0, command
        assert all(word in said.output for word in command), command
