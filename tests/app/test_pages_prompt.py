"""The prompt page's state: what a form, an address and a button mean; the worked examples say what is true."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from analysis.registry import BUNDLED_FOLDER
from analysis.types import InputError
from app.core.escape import visible
from app.core.interventions import parse_intervention, write_intervention
from app.core.request import InterventionRequest
from app.core.residency.host import ModelHost
from app.core.settings import Settings
from app.prompt import examples
from app.prompt.example_answer import page
from app.prompt.request import PromptState
from app.prompt.to_view import selected
from app.prompt.view import PromptView
from tests.real import put_smollm2
from tests.tolerance import IDENTITY

numbers = st.floats(-1e6, 1e6, allow_nan=False)
neurons = st.builds(lambda layer, index: f"{layer}.{index}", st.integers(0, 99), st.integers(0, 9999))
places = st.one_of(
    st.none(),
    st.lists(st.integers(0, 500), min_size=1, max_size=4),
    st.builds(lambda a, n: {"start": a, "stop": a + n}, st.integers(0, 500), st.integers(1, 20)),
)
interventions = st.one_of(
    st.fixed_dictionaries({"neuron": neurons, "mode": st.sampled_from(["mean", "zero"]), "positions": places}),
    st.fixed_dictionaries(
        {"neuron": neurons, "mode": st.sampled_from(["value", "scale"]), "value": numbers, "positions": places}
    ),
    st.fixed_dictionaries({"neuron": neurons, "mode": st.just("clip"), "min": numbers, "positions": places}),
    st.fixed_dictionaries({"neuron": neurons, "mode": st.just("clip"), "max": numbers, "positions": places}),
)


@given(interventions)
def test_the_compact_form_loses_nothing(body: dict[str, Any]) -> None:
    item = InterventionRequest.model_validate(body)
    active, read = parse_intervention(write_intervention(item))
    assert active
    assert read == item


@given(st.text(max_size=40) | st.from_regex(r"!?\d\.\d:(clip|value|mean)=?[\d.]*@?[\d,-]*", fullmatch=True))
def test_whatever_is_written_is_read_as_it_stands_or_refused(text: str) -> None:
    try:
        _, item = parse_intervention(text)
    except InputError:
        return
    assert parse_intervention(write_intervention(item))[1] == item


@given(
    pos=st.none() | st.integers(0, 100),
    metric=st.sampled_from(["entropy", "loss", "3.17"]),
    offset=st.integers(0, 1000),
    do=st.sampled_from(["", "3.17:mean", "3.17:value=-1.5@2-4 !0.3:zero"]),
    fmin=st.none() | numbers,
)
def test_an_address_brings_the_state_back(**given_state: Any) -> None:
    state = PromptState(text="never in the address", **given_state)
    back = PromptState.read(dict(parse_qsl(state.query())))
    assert back == state.model_copy(update={"text": ""})
    assert PromptState.read(dict(state.fields())) == state


def test_buttons() -> None:
    state = PromptState(text="x", pos=3, do="3.1:mean 3.2:zero")

    def press(act: str, **fields: Any) -> PromptState:
        return state.model_copy(update={"act": act, **fields}).acted()

    assert press("ablate:3.7").do == "3.1:mean 3.2:zero 3.7:mean"
    assert press("ablate:3.1", at="token").do == "3.1:mean 3.2:zero 3.1:mean@3"
    assert press("ablate", tick=("3.7", "3.8")).do.endswith("3.7:mean 3.8:mean")
    assert press("ablate:3.7=0.25", baseline="prompt_mean").do.endswith("3.7:value=0.25")
    assert press("ablate:3.2", baseline="zero").do == state.do
    assert press("pause:0").do == "!3.1:mean 3.2:zero"
    assert press("pause:0", do="!3.1:mean").do == "3.1:mean"
    assert press("drop:0").do == "3.2:zero"
    assert press("clear").do == ""
    assert press("add", neuron="0.5", mode="clip", max=2.0, where="4-9").do.endswith("0.5:clip=..2@4-9")
    assert press("sort:d_loss.direct:asc").order == "asc"
    assert press("watch:0.5").watched == ["0.5"]
    assert press("pin").of_pin() == PromptState(text="x", do=state.do)
    assert press("run").pos is None
    for act in ("drop:9", "drop:²", "pause:٣", "page:²", "page:-1", f"page:{'9' * 70}", "ablate:nothing", "watch:<b>"):
        with pytest.raises(InputError):
            press(act)


def test_browsers_line_ends_are_what_was_typed() -> None:
    assert PromptState.read({"text": "a\r\nb"}).text == "a\nb"


def test_interventions_of_any_layer_redraw_beside_the_clean_run(client: TestClient) -> None:
    fields = {"text": "the cat sat on the mat", "do": "0.3:value=5@2-3 !1.2:zero", "pos": "3"}
    view = client.post("/?format=json", data=fields).json()
    assert [chip["active"] for chip in view["chips"]] == [True, False]
    clean, changed = view["trace"]["clean"]["entropy"], view["trace"]["intervened"]["entropy"]
    assert clean[:2] == changed[:2]
    assert clean[2] != changed[2]
    assert view["selected"]["intervened"]["entropy"] == changed[3]


def test_the_true_next_token_is_always_a_row(client: TestClient) -> None:
    view = client.post("/?format=json", data={"text": "the cat sat on the mat", "pos": "2"}).json()
    truth = [row for row in view["selected"]["rows"] if row["is_next"]]
    assert len(truth) == 1
    assert truth[0]["rank"] == view["trace"]["clean"]["rank"][2]
    last = client.post("/?format=json", data={"text": "the cat sat on the mat"}).json()
    assert not any(row["is_next"] for row in last["selected"]["rows"])


def test_a_pinned_run_is_computed_again(client: TestClient) -> None:
    pin = PromptState(text="the dog sat", do="0.3:zero", act="pin").acted().pin
    view = client.post("/?format=json", data={"text": "the cat sat on the mat", "pos": "2", "pin": pin}).json()
    alone = client.post("/?format=json", data={"text": "the dog sat", "do": "0.3:zero"}).json()
    assert view["pinned"]["trace"]["intervened"] == alone["trace"]["intervened"]
    assert set(view["pinned_effects"]) == {row["neuron"] for row in view["effects"]["rows"]}
    assert view["selected"]["pinned"]["entropy"] == alone["trace"]["intervened"]["entropy"][2]


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_what_is_shown_has_no_invisible_character(text: str) -> None:
    assert visible(text).isprintable()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    host = ModelHost(
        Settings(data_dir=tmp_path_factory.mktemp("data"), models=("demo",), device="cpu", effects_backend="eager")
    )
    host.start()
    host.wait("demo")
    host.entry("demo").means_settled.wait()
    yield host
    host.close()


SMOLLM2S = examples.shelf(BUNDLED_FOLDER.parent / "smollm2-135m" / examples.FOLDER)


def test_there_are_six_examples_and_four_of_smollm2() -> None:
    assert (len(examples.shelf().items), len(SMOLLM2S.items)) == (6, 4)
    assert all(item.checks for item in (*examples.shelf().items, *SMOLLM2S.items))


@pytest.mark.real
@pytest.mark.slow
def test_smollm2s_examples_are_what_it_says(smollm2_folder: Path, tmp_path: Path) -> None:
    """Each page computed again; the sentence is made from its numbers, so it is the same sentence."""
    put_smollm2(smollm2_folder, tmp_path)
    host = ModelHost(Settings(data_dir=tmp_path, models=("smollm2-135m",), device="cpu", effects_backend="eager"))
    host.start()
    try:
        host.wait("smollm2-135m")
        host.entry("smollm2-135m").means_settled.wait()
        means = host.entry("smollm2-135m").means.value
        assert means is not None
        assert (means.source, means.sinks) == ("sample.jsonl", 95), "those that ship"
        assert examples.own(host, "smollm2-135m") is SMOLLM2S
        for item in SMOLLM2S.items:
            view = host.submit("smollm2-135m", page, item).result()
            assert_committed(item, view)
            assert item.model_copy(update={"view": view}).ref.claim == item.ref.claim
    finally:
        host.close()


def assert_committed(example: examples.Example, view: PromptView) -> None:
    """The same page to four digits (float32 sums in any order); its sentence's claim holds on both."""
    assert example.view is not None
    assert example.view.trace is not None
    assert view.trace is not None
    assert examples.failures(example, view) == []
    assert examples.failures(example, example.view) == []
    assert example.view.chips == view.chips
    assert example.view.trace.provenance.weights_sha256 == view.trace.provenance.weights_sha256
    again = view.trace.clean.entropy
    assert example.view.trace.clean.entropy == pytest.approx(again, rel=0, abs=IDENTITY[torch.float32])
    assert selected(view.trace, int(view.state["pos"])) is not None


@pytest.mark.parametrize("example", examples.shelf().items, ids=lambda example: example.key)
def test_the_committed_example_is_what_the_model_says(demo: ModelHost, example: examples.Example) -> None:
    """Computed again."""
    assert_committed(example, demo.submit("demo", page, example).result())


def test_the_first_paint_needs_no_model(client: TestClient, demo: ModelHost) -> None:
    from app.main import create_app

    class Absent(ModelHost):
        def start(self) -> None:
            """The models never begin to load."""

    absent = Absent(demo.settings)
    page = TestClient(create_app(demo.settings, host=absent)).get("/")
    assert page.status_code == 200
    assert "Computed beforehand" in page.text
    assert 'data-neuron="3.' in page.text


def test_another_model_gets_the_texts_but_not_the_neurons_of_the_bundled_one(client: TestClient) -> None:
    page = client.get("/").text
    assert "An entropy neuron" not in page
    assert "Said twice" in page
    assert "Computed beforehand" not in page


def test_the_count_says_how_many_tokens_and_what_is_too_much(client: TestClient) -> None:
    def count(text: str) -> str:
        answer = client.post("/count", data={"text": text})
        assert answer.status_code == 200
        assert 'id="count"' in answer.text
        return answer.text

    ids = client.post("/api/v1/models/tiny-gpt2/tokens", json={"text": "the cat"}).json()
    assert f"{ids['n_tokens']} / 40" in count("the cat")
    assert "over" in count("the cat " * 60)
    assert "at most" in count("x" * 30_000)
    assert " / " not in count("")


def test_a_prompt_waits_for_its_model_by_itself(demo: ModelHost) -> None:
    from app.main import create_app

    client = TestClient(create_app(demo.settings, host=ModelHost(demo.settings)))
    answer = client.post("/", data={"text": "the cat"})
    assert answer.status_code == 503
    assert 'hx-trigger="load delay:2s"' in answer.text
    assert "the cat" in answer.text


def test_a_shared_page_is_what_it_was(client: TestClient) -> None:
    fields = {"text": "the cat sat on the mat", "pos": "3", "do": "0.3:zero", "example": "noise"}
    answer = client.post("/share", data=fields, follow_redirects=False)
    page = client.get(answer.headers["location"])
    assert "Recomputed" in page.text
    assert "at 3" in page.text
    assert "0.3" in page.text


def test_a_text_that_is_too_long_is_cut_to_what_fits_by_one_button(client: TestClient) -> None:
    """40 tokens are allowed in these tests; the tiny model's are bytes."""
    text = "many words " * 9
    counted = client.post("/count", data={"text": text})
    assert 'value="fit"' in counted.text
    refused = client.post("/", data={"text": text, "act": "run"})
    assert (refused.status_code, 'value="fit"' in refused.text) == (422, True)
    assert "The first 40 of its 99 characters fit." in refused.text
    fit = client.post("/", params={"format": "json"}, data={"text": text, "act": "fit"}).json()
    assert fit["state"]["text"] == text[:40]
    assert len(fit["trace"]["tokens"]) == 40
