"""The effects page: the API's numbers as page, fragment, JSON and CSV; a heat map that fills while one looks."""

import csv
import html
import io

import pytest
from starlette.testclient import TestClient

from app.effects.charts import lens
from app.effects.to_view import lens_sentence
from app.effects.view import LensLayerView, LensView
from tests import tiny
from tests.tolerance import EFFECT

URL = "/api/v1/models/tiny-gpt2"
TEXT = tiny.tokenizer().decode(tiny.token_ids(9, bos=False))
FORM = {"text": TEXT}


def data(client: TestClient, **fields: str) -> dict:
    response = client.post("/effects", params={"format": "json"}, data={**FORM, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def test_the_page_shows_the_apis_numbers(client):
    prompt = {"text": TEXT}
    shown = data(client, panel="heatmap", limit="5")["heatmap"]
    assert shown["rows"] == client.post(f"{URL}/heatmap", json={**prompt, "limit": 5}).json()["rows"]
    body = {**prompt, "neurons": ["1.3", "1.9"], "position": 4}
    for panel in ("joint", "dose"):
        shown = data(client, panel=panel, neurons="1.9, 1.3", pos="4")[panel]
        assert shown["rows"] == client.post(f"{URL}/{panel}", json=body).json()["rows"]
    shown = data(client, panel="ledger", pos="4", k="3")["ledger"]
    asked = {**prompt, "position": 4, "k": 3, "limit": 40}
    assert shown["rows"] == client.post(f"{URL}/ledger", json=asked).json()["rows"]


@pytest.mark.parametrize("panel", ["heatmap", "joint", "dose", "ledger"])
def test_every_panel_is_a_page_a_fragment_and_a_table(client, panel):
    page = client.post("/effects", data={**FORM, "panel": panel})
    assert page.status_code == 200
    assert "<html" in page.text
    assert f'data-chart="{panel}"' in page.text
    fragment = client.post(
        "/effects", data={**FORM, "panel": panel}, headers={"HX-Request": "true", "HX-Target": "div#effects"}
    )
    assert "<html" not in fragment.text
    assert 'id="effects"' in fragment.text
    table = client.post("/effects", params={"format": "csv"}, data={**FORM, "panel": panel})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert len(rows) > 1


def test_without_neurons_the_strongest_two_are_taken(client):
    strongest = client.post(f"{URL}/effects", json={"text": TEXT, "limit": 2}).json()["rows"]
    shown = data(client, panel="joint")
    assert {row["neuron"] for row in shown["joint"]["rows"]} == {row["neuron"] for row in strongest}


def test_the_switch_makes_total_and_direct_coincide(client):
    effect = data(client, panel="joint", neurons="1.3 1.9", ln="median")["joint"]["joint"]["d_entropy"]
    assert abs(effect["total"] - effect["direct"]) < 2 * EFFECT


def test_a_heat_map_asks_for_itself_until_it_is_done(client):
    """Each fragment that is not finished names where the next one comes from; the last one does not."""
    headers = {"HX-Request": "true", "HX-Target": "div#effects"}
    text = client.post("/effects", data={**FORM, "metric": "d_loss"}, headers=headers).text
    for _ in range(200):
        if "/effects/heatmap/" not in text:
            break
        url = text.split('hx-get="', 1)[1].split('"', 1)[0]
        text = client.get(url, headers={"HX-Request": "true", "HX-Target": "section#heatmap"}).text
    assert "/effects/heatmap/" not in text
    assert "40 neurons" in text
    assert client.get("/effects/heatmap/unknown").status_code == 404


def test_a_heat_maps_python_names_the_host_that_each_reader_came_by(client):
    """Two readers ask for the same map, which is computed once."""
    fields = {**FORM, "metric": "kl"}
    pages = [client.post(f"http://{host}/effects", data=fields).text for host in ("127.0.0.1:8000", "localhost:9000")]
    for host, page in zip(("127.0.0.1:8000", "localhost:9000"), pages, strict=True):
        assert [f"url = &#34;http://{host}/" in page, page.count("url = &#34;")] == [True, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"panel": "joint", "neurons": "0.3"}, "not in the last layer"),
        ({"panel": "joint", "neurons": "x"}, "neurons"),
        ({"panel": "dose", "neurons": "1.3", "low": "9"}, "doses"),
        ({"panel": "ledger", "pos": "400"}, "Position 400"),
        ({"panel": "heatmap", "baseline": "<b>"}, "baseline"),
    ],
)
def test_errors_stand_in_the_page(client, fields, message):
    response = client.post("/effects", data={**FORM, **fields})
    assert response.status_code == 422
    assert message in response.text
    assert "<b>" not in response.text.replace("&lt;b&gt;", "")


def test_hostile_text_is_shown_and_not_run(client):
    response = client.post("/effects", data={"text": "a</textarea><script>alert(1)</script>", "panel": "heatmap"})
    assert "<script>alert(1)" not in response.text


def test_the_lens_panel_shows_the_api_s_numbers(client: TestClient) -> None:
    given = {"model": "tiny-gpt2", "text": "The dog sat", "panel": "lens", "scale": "frozen"}
    shown = client.post("/effects?format=json", data=given).json()["lens"]
    told = client.post("/api/v1/models/tiny-gpt2/lens", json={"text": "The dog sat", "scale": "frozen"}).json()
    assert shown["layers"] == told["layers"]
    page = client.post("/effects", data=given)
    assert page.status_code == 200
    assert "Where along the depth" in page.text
    table = client.post("/effects?format=csv", data=given).text.splitlines()
    assert len(table) == 1 + len(told["layers"]) * len(told["tokens"])


@pytest.mark.parametrize("reads", ["entropy", "loss", "kl_final", "top_prob"])
def test_the_lens_colours_what_is_chosen(client: TestClient, reads: str) -> None:
    told = LensView.model_validate(client.post("/api/v1/models/tiny-gpt2/lens", json={"text": "The dog sat"}).json())
    (drawn,) = lens(told, reads).data
    for row, layer in zip(drawn.z, told.layers, strict=True):
        expected = [top[0].prob for top in layer.top] if reads == "top_prob" else getattr(layer, reads)
        assert list(row) == expected
    page = client.post("/effects", data={"text": "The dog sat", "panel": "lens", "reads": reads}).text
    assert html.unescape(told.sentence)[:60] in html.unescape(page)


def curve(entropy: list[float], kl: list[float], top: list[int]) -> LensView:
    """A reading a block, the same at two tokens behind a sink which reads as nothing else does."""
    names = ["embed", "L0.attn", "L0.mlp", "L1.attn", "L1.mlp"][: len(entropy)]
    layers = [
        {
            "name": name,
            "entropy": [50.0, h, h],
            "loss": [50.0, h, None],
            "kl_final": [500.0, far, far],
            "ln_scale": [1.0, 1.0, 1.0],
            "top": [[{"id": one, "text": "a", "prob": 0.5, "logprob": -0.7}] for one in (i, best, best)],
        }
        for i, (name, h, far, best) in enumerate(zip(names, entropy, kl, top, strict=True))
    ]
    tokens = [{"position": i, "id": i, "text": "a"} for i in range(3)]
    return LensView.model_construct(
        tokens=tokens,
        scale="own",
        of="stream",
        layers=[LensLayerView.model_validate(layer) for layer in layers],
    )


def test_the_lens_sentence_passes_over_what_is_sure_of_something_else() -> None:
    """Tied weights: the embedding reads itself, surer than any later reading and far from the end."""
    told = lens_sentence(curve([0.0, 0.1, 2.0, 1.5, 2.5], [90.0, 40.0, 2.5, 2.0, 0.0], [1, 1, 1, 2, 2]), 4096)
    assert "From L0.mlp on" in told
    assert "2.00 there, at its smallest 1.50 behind L1.attn, and 2.50 at the end" in told
    assert "L1.attn adds most certainty (−0.50), L1.mlp takes most back (+1.00)" in told
    assert "top token from L1.attn on" in told
    assert "embed" not in told


@pytest.mark.parametrize(
    ("entropy", "kl", "expected"),
    [
        ([6.0, 5.0, 4.0, 3.0, 2.0], [0.8, 0.6, 0.4, 0.2, 0.0], ["From embed on", "none takes any back"]),
        ([2.0, 2.1, 2.3, 2.4, 2.8], [0.8, 0.6, 0.4, 0.2, 0.0], ["at its smallest, and", "no block adds certainty"]),
        ([2.0, 1.0, 1.5, 1.2, 2.0], [1.0, 1.0, 9.0, 1.0, 0.0], ["From L1.attn on", "no block adds", "L1.mlp takes"]),
        ([0.0, 0.0, 0.0, 0.0, 2.0], [9.0, 9.0, 9.0, 9.0, 0.0], ["No reading before the end", "appears with L1.mlp"]),
        ([0.0, 0.0, 0.0, 0.0, 8.3], [9.0, 9.0, 9.0, 9.0, 0.0], ["hardly any certainty"]),
    ],
)
def test_the_lens_sentence_of_a_curve(entropy: list[float], kl: list[float], expected: list[str]) -> None:
    told = lens_sentence(curve(entropy, kl, [1, 2, 3, 4, 5]), 4096)
    assert [part for part in expected if part not in told] == []


@pytest.mark.parametrize("path", ["/effects", "/why", "/write"])
def test_a_cleared_prompt_is_refused_and_no_other_one_answered(client: TestClient, path: str) -> None:
    for text in ("", "  \n"):
        page = client.post(path, data={"text": text})
        assert page.status_code == 422
        assert "The prompt is empty." in page.text
        assert "data-chart" not in page.text
