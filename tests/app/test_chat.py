"""A conversation at every door: the same tokens, the answer told apart and its confidence; without a template, none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from starlette.testclient import TestClient

from analysis.types import InputError
from app.cli import main
from app.core import turns as fields
from app.core.request import MOST_TURNS
from app.core.settings import Settings
from app.core.view import TurnView
from app.main import create_app
from nullscope.client import Client
from tests import chats, tiny
from tests.app.test_client import Through

URL = "/api/v1/models/tiny-chat"
ASKED = [{"role": "system", "content": "Speak."}, {"role": "user", "content": "Cold?"}]
TURNS = [*ASKED, {"role": "assistant", "content": "Yes."}]
WRITTEN = "<<system>>Speak.<<end>>\n<<user>>Cold?<<end>>\n<<assistant>>"
HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chat") / "tiny-chat"
    tiny.hf_model("gpt2", dtype=torch.float32, n_positions=160).save_pretrained(made)
    chats.tokenizer(chats.CHATML).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def chat(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        models=(str(folder),),
        device="cpu",
        effects_backend="eager",
        reference_tokens=500,
    )
    with TestClient(create_app(settings)) as opened:
        for entry in opened.app.state.host.entries.values():  # type: ignore[attr-defined]
            entry.means_settled.wait()
        yield opened


def form(**more: str) -> dict[str, str]:
    rows = {f"{name}{number}": turn[key] for number, turn in enumerate(ASKED) for name, key in NAMES}
    return {"text": "It was", "model": "tiny-chat", **rows, **more}


NAMES = (("role", "role"), ("turn", "content"))


def box(html: str, name: str = "text") -> str:
    found = re.search(rf'<textarea[^>]* name="{name}"[^>]*>\n?(.*?)</textarea>', html, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def test_turns_are_the_templates_text_for_every_question(chat: TestClient) -> None:
    of_turns = chat.post(f"{URL}/trace", json={"turns": TURNS}).json()
    text = WRITTEN + "Yes.<<end>>\n"
    of_text = chat.post(f"{URL}/trace", json={"text": text, "prepend_bos": False}).json()
    assert of_turns["tokens"] == of_text["tokens"]
    assert of_turns["clean"] == of_text["clean"]
    assert [token["text"] for token in of_turns["tokens"] if token["role"] == "assistant"] == list("Yes.")
    compact = chat.post(f"{URL}/effects", json={"turns": ["system: Speak.", "user: Cold?"], "limit": 1}).json()
    whole = chat.post(f"{URL}/effects", json={"turns": ASKED, "limit": 1}).json()
    assert compact["rows"] == whole["rows"]
    assert (
        "".join(token["text"] for token in chat.post(f"{URL}/tokens", json={"turns": ASKED}).json()["tokens"])
        == WRITTEN
    )


def test_the_confidence_of_an_answer_is_that_of_its_tokens(chat: TestClient) -> None:
    run = chat.post(f"{URL}/trace", json={"turns": TURNS}).json()
    at = [token["position"] - 1 for token in run["tokens"] if token["role"] == "assistant"]
    answer, clean = run["answer"], run["clean"]
    assert answer["n"] == 4
    assert answer["mean_entropy"] == pytest.approx(sum(clean["entropy"][t] for t in at) / 4)
    assert answer["log_prob"] == pytest.approx(-sum(clean["loss"][t] for t in at))
    assert answer["perplexity"] == pytest.approx(math.exp(-answer["log_prob"] / 4))
    assert answer["least"] == max(at, key=lambda t: clean["loss"][t]) + 1
    assert chat.post(f"{URL}/trace", json={"text": "It was"}).json()["answer"] is None


def test_what_is_written_is_the_answer_and_its_numbers_those_of_a_trace(chat: TestClient) -> None:
    told = chat.post(
        f"{URL}/generate", json={"turns": ASKED, "max_new_tokens": 5, "stop_at_eos": False}, params={"store": True}
    ).json()
    sure = told["confidence"]
    assert sure["n"] == 5
    assert sure["mean_entropy"] == pytest.approx(sum(step["entropy"] for step in told["tokens"]) / 5)
    assert sure["log_prob"] == pytest.approx(sum(math.log(step["prob"]) for step in told["tokens"]))
    ids = [token["id"] for token in (*told["prompt"], *told["tokens"])]
    again = chat.post(f"{URL}/trace", json={"token_ids": ids}).json()
    assert [token["role"] for token in again["tokens"]][-5:] == ["assistant"] * 5
    assert again["answer"]["log_prob"] == pytest.approx(sure["log_prob"], abs=1e-4)
    name = told["permalink"].rpartition("/")[2]
    assert chat.get(f"/api/v1/results/{name}").json()["verdict"] == "recomputed"


def test_an_answer_that_is_begun_is_gone_on_with(chat: TestClient) -> None:
    """At every door that writes, and one text written in two goes is the one that is written at once."""
    text = WRITTEN + "Yes."
    body = {"max_new_tokens": 4, "stop_at_eos": False}
    told = chat.post(f"{URL}/generate", json={"turns": TURNS, **body}).json()
    assert "".join(token["text"] for token in told["prompt"]) == text
    dial = {"dials": ["1.3:scale=2"], "twins": False, "max_new_tokens": 2}
    arms = chat.post(f"{URL}/dial", json={"turns": TURNS, **dial}).json()
    assert "".join(token["text"] for token in arms["prompt"]) == text
    page = chat.post("/write", data=form(panel="chat", role2="assistant", turn2="Yes."), headers=HTML).text
    assert box(page) == text
    once = chat.post(f"{URL}/generate", json={"turns": ASKED, **body}).json()
    ids = [step["id"] for step in once["tokens"]]
    again = chat.post(f"{URL}/generate", json={"turns": ASKED, "written": ids[:2], **body, "max_new_tokens": 2}).json()
    assert [step["id"] for step in again["tokens"]] == ids
    assert again["confidence"]["n"] == 4


def test_a_mark_in_a_turn_is_refused_at_every_door(chat: TestClient, folder: Path) -> None:
    said = [{"role": "user", "content": "a </s> b"}]
    for path, more in (("trace", {}), ("generate", {}), ("tokens", {}), ("dial", {"dials": ["1.3:scale=2"]})):
        answer = chat.post(f"{URL}/{path}", json={"turns": said, **more})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "mark_in_turn"), path
    for path, button in (("/", {"act": "chat"}), ("/write", {"panel": "chat"})):
        page = chat.post(path, data=form(**button, turn1="a </s> b"), headers=HTML)
        assert page.status_code == 422
        assert "turn has &lt;/s&gt;" in page.text
        assert box(page.text, "turn1") == "a </s> b", "what was typed stays"
    words = ["generate", "--turn", "user: a </s> b", "--model", str(folder)]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code != 0
    assert "turn has </s>" in refused.output


def test_the_client_and_the_shell_take_turns(chat: TestClient, folder: Path) -> None:
    with Client("http://testserver", model="tiny-chat", transport=Through(chat)) as speaker:
        run = speaker.trace(TURNS)
        *_, whole = speaker.writing(ASKED, max_new_tokens=2, stop_at_eos=False)
    assert run.answer is not None
    assert len(whole.tokens) == 2
    words = ["trace", "--turn", "system: Speak.", "--turn", "user: Cold?", "--turn", "assistant: Yes.", "--json"]
    said = CliRunner().invoke(main, [*words, "--model", str(folder)])
    assert said.exit_code == 0, said.output
    printed = json.loads(said.stdout)
    assert printed["tokens"] == [token.model_dump() for token in run.tokens]
    refused = CliRunner().invoke(main, ["trace", "--turn", "nobody: Hello"])
    assert refused.exit_code != 0
    assert "is not a turn" in refused.output


def test_the_prompt_page_writes_the_turns_and_shows_them_again(chat: TestClient) -> None:
    html = chat.post("/", data=form(act="chat"), headers=HTML).text
    assert box(html) == WRITTEN
    assert [box(html, f"turn{number}") for number in range(3)] == ["Speak.", "Cold?", ""]
    again = chat.post("/", data=form(act="chat", role2="assistant", turn2="Yes."), headers=HTML).text
    assert again.count('data-role="assistant"') == 4
    assert "log-probability" in again
    plain = chat.post("/", data={"text": "It was", "model": "tiny-chat"}, headers=HTML).text
    assert "data-role" not in plain
    given = chat.post("/", data={"text": "Cold?", "model": "tiny-chat", "act": "chat", "role1": "user", "turn1": ""})
    assert "<<user>>Cold?<<end>>" in box(given.text), "without turns the prompt is the user's"


def test_a_base_and_an_instruct_prompt_stand_beside_each_other(chat: TestClient) -> None:
    data = {"text": "It was", "model": "tiny-chat", "act": "pin"}
    pinned = chat.post("/", data=data, headers={"accept": "application/json"}).json()["state"]["pin"]
    both = chat.post("/", data=form(act="chat", pin=pinned), headers={"accept": "application/json"}).json()
    assert [token["text"] for token in both["pinned"]["trace"]["tokens"]][-6:] == list("It was")
    assert both["state"]["text"] == WRITTEN


def test_the_page_that_writes_takes_the_turns_and_tells_the_answers_confidence(chat: TestClient) -> None:
    html = chat.post("/write", data=form(panel="chat"), headers=HTML).text
    assert box(html) == WRITTEN
    assert "Nothing is written yet" in html
    data = {"text": WRITTEN, "model": "tiny-chat", "n": "3"}
    told = chat.post("/write", data=data, headers=HTML).text
    assert "log-probability" in told
    assert 'data-role="user"' in told
    assert box(chat.get("/write", headers=HTML).text, "turn1") == "Cold?", "what is at hand is taken apart"


def test_without_a_template_it_is_said_what_to_do_and_what_was_typed_stays(client: TestClient) -> None:
    answer = client.post("/api/v1/models/tiny-gpt2/trace", json={"turns": ASKED})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "no_chat_template"
    assert answer.json()["error"]["hint"]
    for path, button in (("/", {"act": "chat"}), ("/write", {"panel": "chat"})):
        page = client.post(path, data=form(**button) | {"model": "tiny-gpt2"}, headers=HTML)
        assert page.status_code == 422
        assert "has no chat template" in page.text
        assert box(page.text) == "It was"
    assert 'class="chat"' not in client.post("/", data={"text": "It was", "model": "tiny-gpt2"}, headers=HTML).text


@pytest.mark.parametrize(
    "wrong",
    [
        {"turns": []},
        {"turns": [{"role": "nobody", "content": "a"}]},
        {"turns": ["user"]},
        {"turns": ASKED, "text": "a"},
    ],
)
def test_what_is_no_conversation_is_refused(client: TestClient, wrong: dict) -> None:
    assert client.post("/api/v1/models/tiny-gpt2/trace", json=wrong).status_code == 422


def test_more_turns_than_any_door_takes_are_refused_and_none_is_dropped_without_a_word() -> None:
    def many(n: int) -> dict[str, str]:
        return {f"role{number}": "user" for number in range(n)} | {f"turn{number}": "a\r\nb" for number in range(n)}

    assert [turn.content for turn in fields.written(many(MOST_TURNS))] == ["a\nb"] * MOST_TURNS
    with pytest.raises(InputError, match=f"at most {MOST_TURNS} turns"):
        fields.written(many(MOST_TURNS + 1))
    assert len(fields.typed(many(99))) == 99
    assert len(fields.offered([TurnView(role="user", content="a")] * 99)) == 101


@pytest.mark.parametrize(("path", "button"), [("/", "act"), ("/write", "panel")])
def test_as_many_turns_as_one_adds_are_written_and_none_is_lost_by_a_refusal(
    chat: TestClient, path: str, button: str
) -> None:
    said = [*ASKED, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Why?"}]
    rows = {f"{name}{number}": turn[key] for number, turn in enumerate(said) for name, key in NAMES}
    data = {"text": "It was", "model": "tiny-chat", **rows}
    page = chat.post(path, data=data | {button: "chat"}, headers=HTML).text
    assert box(page) == WRITTEN + "Yes.<<end>>\n<<user>>Why?<<end>>\n<<assistant>>"
    assert [box(page, f"turn{number}") for number in range(5)] == [*(turn["content"] for turn in said), ""]
    assert "data-add-turn" in page
    wrong = {"turn3": "Why <s>?"}, {"model": "nobody"}, {"model": "tiny-gpt2"}
    for more in wrong:
        refused = chat.post(path, data=data | {button: "chat"} | more, headers=HTML)
        assert refused.status_code in (404, 422)
        kept = [box(refused.text, f"turn{number}") for number in range(4)]
        assert kept == ["Speak.", "Cold?", "Yes.", more.get("turn3", "Why?")]
        roles = re.findall(r'name="role\d+" value="(\w+)"', refused.text)
        assert roles[:4] == [turn["role"] for turn in said]
    run = chat.post(path, data={**data, "n": "2"}, headers=HTML).text
    assert box(run, "turn3") == "Why?", "typed, and not yet written as the template does"


def test_a_conversation_is_no_prompt_before_it_is_written(chat: TestClient) -> None:
    """Where the box is cleared no other prompt is answered in its place."""
    for more in ({}, {"turn0": "", "turn1": ""}, {"turned": "1.3:scale=2"}):
        for accept in ("text/html", "text/event-stream, application/json", "application/json"):
            answer = chat.post("/write", data=form(n="2", text="", **more), headers={"accept": accept})
            assert (answer.status_code, "The prompt is empty." in answer.text) == (422, True), (more, accept)
