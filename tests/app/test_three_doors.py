"""Page and API show the same numbers, token by token: both are renderings of one answer (the shell: test_cli)."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from app.cli import main
from tests import tiny
from tests.app import test_atlas_pages, test_sweep_cli

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
OF = "/models/{key}"
IDS = {"token_ids": tiny.token_ids(9)}
TOKENS = ["--token-ids", ",".join(map(str, IDS["token_ids"]))]
SHORT = ["--rows", "2", "--length", "6"]
REPEATED = {"kind": "random", "rows": 2, "length": 6}


@dataclass(frozen=True)
class Told:
    """A command, and what is asked at the API for the same numbers: the address's query, or the body of a POST."""

    command: list[str]
    asked: dict[str, Any] = field(default_factory=dict)

    def of_api(self, client: TestClient, path: str) -> Any:
        where = "/api/v1" + path.format(key="tiny-gpt2", neuron="1.3")
        get = "get" in client.get("/api/v1/openapi.json").json()["paths"]["/api/v1" + path]
        answer = client.get(where, params=self.asked) if get else client.post(where, json=self.asked)
        assert answer.status_code == 200, answer.text
        return answer.json()


COMMANDS_OF = {
    "/compare": Told(["compare", "tiny-gpt2", "tiny-gpt2", "--k", "3"], {"a": "tiny-gpt2", "b": "tiny-gpt2", "k": 3}),
    f"{OF}/trace": Told(["trace", *TOKENS, "-i", "1.4:zero"], {**IDS, "top_k": 3, "interventions": ["1.4:zero"]}),
    f"{OF}/check": Told(["check"]),
    f"{OF}/effects": Told(["effects", *TOKENS, "-p", "3", "--limit", "4"], {**IDS, "position": 3, "limit": 4}),
    f"{OF}/heatmap": Told(["heatmap", *TOKENS, "--limit", "3"], {**IDS, "limit": 3}),
    f"{OF}/joint": Told(["joint", *TOKENS, "-n", "1.3", "-n", "1.5"], {**IDS, "neurons": ["1.3", "1.5"]}),
    f"{OF}/dose": Told(["dose", *TOKENS, "-n", "1.3", "--steps", "3"], {**IDS, "neurons": ["1.3"], "steps": 3}),
    f"{OF}/ledger": Told(["ledger", *TOKENS, "--k", "3"], {**IDS, "k": 3, "limit": 10}),
    f"{OF}/lens": Told(["lens", *TOKENS, "--top-k", "2"], {**IDS, "top_k": 2}),
    f"{OF}/why": Told(["why", *TOKENS, "-p", "4"], {**IDS, "position": 4, "neurons": 8}),
    f"{OF}/circuit": Told(["circuit", *TOKENS, "--component", "1.3"], {**IDS, "component": "1.3"}),
    f"{OF}/generate": Told(
        ["generate", *TOKENS, "--max-new-tokens", "3"], {**IDS, "max_new_tokens": 3, "alternatives": 3}
    ),
    f"{OF}/dial": Told(
        ["dial", *TOKENS, "--max-new-tokens", "2", "-d", "1.3:scale=2"],
        {**IDS, "max_new_tokens": 2, "dials": ["1.3:scale=2"]},
    ),
    f"{OF}/why/text": Told(["why-text", *TOKENS, "--target", "loss"], {**IDS, "target": "loss", "limit": 8}),
    f"{OF}/why/compare": Told(
        ["why-compare", *TOKENS, "-p", "5", "--other-position", "2", "--other-intervene", "1.3:zero"],
        {**IDS, "position": 5, "other_position": 2, "other_interventions": ["1.3:zero"], "neurons": 8},
    ),
    f"{OF}/neurons": Told(["neurons", "--layer", "0", "--k", "3"], {"layer": 0, "k": 3, "limit": 20}),
    f"{OF}/neurons/{{neuron}}": Told(["neuron", "1.3", "--k", "3"], {"k": 3}),
    f"{OF}/neurons/{{neuron}}/sample": Told(["neuron", "1.3", "--sample"]),
    f"{OF}/spectrum": Told(["spectrum", "--k", "3"], {"k": 3}),
    f"{OF}/story": Told(["story"]),
    f"{OF}/nullspace": Told(["nullspace", "--k", "3", "--layer", "0"], {"k": 3, "layer": 0}),
    f"{OF}/walk": Told(["walk", *TOKENS, "-d", "2"], {**IDS, "direction": 2}),
    f"{OF}/frequency": Told(["frequency"]),
    f"{OF}/induction": Told(["induction", "--kind", "random", *SHORT], {**REPEATED, "limit": 10}),
    f"{OF}/heads": Told(["induction", "--heads", *SHORT], {"rows": 2, "length": 6}),
    f"{OF}/induction/attribution": Told(
        ["induction", "--kind", "random", *SHORT, "--who", "1.3"], {**REPEATED, "neuron": "1.3"}
    ),
    f"{OF}/induction/ablation": Told(
        ["induction", "--kind", "random", *SHORT, "--ablate", "0.1", "-n", "1.3", "--random", "1"],
        {**REPEATED, "heads": ["0.1"], "neurons": ["1.3"], "random": 1},
    ),
    f"{OF}/induction/natural": Told(["induction", "--natural-repeats", "--clip", "1.4"], {"clip": ["1.4"]}),
}  # fmt: skip

ELSEWHERE = {
    f"{OF}/reproduce": test_atlas_pages.test_reproduce_says_what_holds_and_what_does_not,
    "/sweeps": test_sweep_cli.test_a_server_gives_the_same_bytes,
    "/sweeps/estimate": test_sweep_cli.test_an_estimate_is_of_what_the_run_then_does,
    "/sweeps/compare": test_sweep_cli.test_two_sweeps_compared_are_the_servers,
    "/sweeps/{sweep_id}": test_sweep_cli.test_export,
    "/sweeps/{sweep_id}/resume": test_sweep_cli.test_resume_does_what_is_left,
    "/sweeps/{sweep_id}/figures/{name}": test_sweep_cli.test_figures_are_the_servers,
    "/sweeps/{sweep_id}/neurons/{neuron}": test_sweep_cli.test_a_neuron_is_the_servers,
    "/sweeps/{sweep_id}/calibration": test_sweep_cli.test_calibration_is_the_servers,
}
"""Where a command works on a folder, needs a model of its own or prints no JSON: the test that compares its numbers."""


def test_every_number_of_the_api_has_a_command(client: TestClient) -> None:
    """What is left out is state of a server (people's notes, jobs, cancelling), not a number of a model."""
    paths = {path.removeprefix("/api/v1") for path in client.get("/api/v1/openapi.json").json()["paths"]}
    numbers = {
        path for path in paths
        if path.split("/")[1] not in (*STATE, "healthz", "readyz", "metrics") or path.startswith("/models/{key}/")
        if "jobs" not in path and not path.endswith("/cancel")
    }  # fmt: skip
    assert numbers == COMMANDS_OF.keys() | ELSEWHERE.keys() | {f"{OF}/tokens", f"{OF}/reference"}  # the last two tests
    assert not COMMANDS_OF.keys() & ELSEWHERE.keys()


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command that asks an app of the tests in place of a server; what it prints."""

    def run(client: TestClient, *command: str) -> str:
        class Door:
            def __init__(self, *, base_url: str, **more: Any) -> None:
                self.base = base_url.removeprefix("http://server")

            def __enter__(self) -> "Door":
                return self

            def __exit__(self, *problem: object) -> None:
                pass

            def request(self, method: str, path: str, **body: Any) -> Any:
                return client.request(method, self.base + path, **body)

            def stream(self, method: str, path: str, **body: Any) -> Any:
                return client.stream(method, self.base + path, **body)

        monkeypatch.setattr(httpx, "Client", Door)
        said = CliRunner().invoke(main, [*command, "--url", "http://server"], catch_exceptions=False)
        assert said.exit_code == 0, said.output
        return said.stdout

    return run


@pytest.mark.parametrize("path", COMMANDS_OF)
def test_a_command_prints_the_numbers_of_the_api(path: str, client: TestClient, through: Callable[..., str]) -> None:
    told = COMMANDS_OF[path]
    assert json.loads(through(client, *told.command, "--json")) == told.of_api(client, path)
    assert through(client, *told.command).strip()


def test_the_tokens_of_a_text_are_those_of_its_trace(client: TestClient, through: Callable[..., str]) -> None:
    told = json.loads(through(client, "trace", TEXT, "--json"))["tokens"]
    assert told == client.post(f"{URL}/tokens", json={"text": TEXT}).json()["tokens"]


def test_a_reference_text_is_named_by_a_command(
    make_client: Callable[..., TestClient], through: Callable[..., str], tmp_path: Path
) -> None:
    client = make_client()
    text = tmp_path / "read.txt"
    text.write_text(TEXT * 9)
    through(client, "models", "--reference", f"tiny-gpt2={text}")
    client.app.state.host.entries["tiny-gpt2"].means_settled.wait()  # type: ignore[attr-defined]
    assert client.get(URL).json()["mean_source"] == "read.txt"
