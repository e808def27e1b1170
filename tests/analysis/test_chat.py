"""Turns become the text that transformers makes of them, and are found in it again; a template does nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest

from analysis.chat import Chat, Confidence, Turn
from analysis.model import Model, from_objects
from analysis.registry import ModelSpec
from analysis.types import InputError, NullscopeError
from tests import chats, tiny

TURNS = [Turn("user", "Is it cold?"), Turn("assistant", "Very."), Turn("user", "Why: so?"), Turn("assistant", "Wind.")]
WITH_SYSTEM = [Turn("system", "Speak short."), *TURNS]
NAMED = pytest.mark.parametrize("name", chats.TEMPLATES)


def model(template: str | None, *, prepend_bos: bool = True) -> Model:
    spec = ModelSpec("tiny-chat", prepend_bos=prepend_bos)
    return from_objects(spec, tiny.hf_model(), chats.tokenizer(template), weights_sha256="0" * 64)


@pytest.fixture(scope="module", params=chats.TEMPLATES)
def chatting(request: pytest.FixtureRequest) -> Model:
    return model(chats.TEMPLATES[request.param])


def theirs(tokenizer: Any, turns: list[Turn], **more: Any) -> list[int]:
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **more)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_ids_are_those_of_transformers_and_bos_is_never_doubled(chatting: Model, n: int) -> None:
    turns = TURNS[:n]
    text = chatting.chat.rendered(turns)
    expected = theirs(chatting.tokenizer, turns, add_generation_prompt=turns[-1].role == "user")
    assert chatting.encode(text) == expected, "a model that prepends BOS takes the template's"
    with_bos = chatting.encode(text, prepend_bos=True)
    assert with_bos[0] == chatting.bos_id
    assert with_bos.count(chatting.bos_id) == 1


@NAMED
def test_what_was_said_is_found_again(name: str) -> None:
    chat = Chat(chats.tokenizer(chats.TEMPLATES[name]), "tiny")
    for turns in (TURNS, TURNS[:1], TURNS[:3], *([] if name == "no system" else [WITH_SYSTEM, WITH_SYSTEM[:2]])):
        assert chat.turns(chat.rendered(turns)) == turns
        assert chat.turns("<s>" + chat.rendered(turns)) == turns, "with a BOS in front"


@NAMED
def test_an_answer_that_is_being_written_is_the_assistants(name: str) -> None:
    chat = Chat(chats.tokenizer(chats.TEMPLATES[name]), "tiny")
    text = chat.rendered(TURNS[:3])
    assert chat.turns(text + "Snow") == [*TURNS[:3], Turn("assistant", "Snow")]


def test_every_token_has_its_side_and_the_templates_own_have_none(chatting: Model) -> None:
    ids = chatting.encode(chatting.chat.rendered(TURNS))
    roles, texts = chatting.roles(ids), chatting.token_texts(ids)
    for role in ("user", "assistant"):
        said = "".join(text for text, each in zip(texts, roles, strict=True) if each == role)
        assert said == "".join(turn.content for turn in TURNS if turn.role == role)
    assert all(role is None for index, role in zip(ids, roles, strict=True) if index in chatting.special_ids)


@NAMED
def test_an_answer_is_left_open_where_it_is_to_be_gone_on_with(name: str) -> None:
    chat = Chat(chats.tokenizer(chats.TEMPLATES[name]), "tiny")
    opened, ended = chat.rendered(TURNS[:2], opened=True), chat.rendered(TURNS[:2])
    assert opened.endswith("Very.")
    assert ended.startswith(opened)
    assert len(ended) > len(opened), "the template ends it"
    assert chat.turns(opened + " Yes") == [TURNS[0], Turn("assistant", "Very. Yes")]
    assert chat.rendered(TURNS[:1], opened=True) == chat.rendered(TURNS[:1]), "whose answer has not begun"


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_what_is_said_is_never_read_as_a_mark(chatting: Model, role: Any) -> None:
    for mark in {chatting.tokenizer.bos_token, chatting.tokenizer.eos_token}:
        said = [*TURNS[:1], *TURNS[1:2], Turn("user", "b")] if role != "system" else [Turn("system", "a"), TURNS[0]]
        at = next(i for i, turn in enumerate(said) if turn.role == role)
        said[at] = Turn(role, f"a {mark} b")
        with pytest.raises(InputError, match=f"{role}'s turn has {mark}") as refused:
            chatting.chat.rendered(said)
        assert refused.value.hint


def test_a_text_that_no_template_wrote_has_no_turns_and_keeps_the_models_habit(chatting: Model) -> None:
    ids = chatting.encode("It was cold.")
    assert ids[0] == chatting.bos_id
    assert chatting.roles(ids) == [None] * len(ids)


def test_without_a_template_it_is_said_what_to_do() -> None:
    plain = model(None)
    with pytest.raises(InputError, match="has no chat template") as refused:
        plain.chat.rendered(TURNS)
    assert refused.value.hint
    assert plain.roles(plain.encode("user: a")) == [None] * 8


def test_turns_that_a_template_does_not_write_are_refused_with_its_words() -> None:
    chat = Chat(chats.tokenizer(chats.NO_SYSTEM), "tiny")
    with pytest.raises(InputError, match="no system turn here"):
        chat.rendered(WITH_SYSTEM)


@pytest.mark.parametrize("name", chats.HOSTILE)
def test_a_hostile_template_is_refused_by_the_sandbox(name: str) -> None:
    chat = Chat(chats.tokenizer(chats.HOSTILE[name]), "tiny")
    with pytest.raises(NullscopeError) as refused:
        chat.rendered(TURNS)
    assert refused.value.code == "chat_template"
    assert chat.parts("anything") == []


def test_turns_are_data_to_a_template_never_a_part_of_it() -> None:
    chat = Chat(chats.tokenizer(chats.CHATML), "tiny")
    said = "{{ 7 * 7 }}{% raw %}{{ messages.append(1) }}"
    assert said in chat.rendered([Turn("user", said)])


def test_the_confidence_of_an_answer() -> None:
    told = Confidence.of([1.0, 3.0, 2.0], [-0.5, -2.5, -1.0], [0, 3, 0])
    assert told == Confidence(3, 2.0, -4.0, math.exp(4 / 3), 2 / 3, 1, math.exp(-2.5))
    assert Confidence.of([], [], []) is None
