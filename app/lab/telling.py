"""A stored result with its story: what its question tells of the answer, the text with what follows the selected token,
label and rho of the neurons that it names."""

import re
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ValidationError

from analysis.types import NullscopeError
from app.core import offloop, permalinks
from app.core.caller import Caller
from app.core.marks import marks_of
from app.core.names import NEURON_PATTERN
from app.core.permalink_view import PermalinkView
from app.core.question import Question
from app.core.request import PromptRequest
from app.core.run import PAGE_PATIENCE, answered
from app.core.store.tables import Result
from app.core.told import Told, beside

STRIP = "trace"
"""The question that gives the text of a prompt its entropies and candidates."""


async def with_caption(caller: Caller, stored: Result, view: PermalinkView) -> PermalinkView:
    """With what the answer's own numbers say; as it is where another version stored one that this does not read."""
    try:
        return view.telling(await offloop.draw(_told, caller, stored, view.result))
    except (NullscopeError, ValidationError):
        return view


def _told(caller: Caller, stored: Result, answer: dict[str, Any]) -> Told:
    others = caller.request.app.state.others
    if stored.kind in others:
        other = others[stored.kind]
        told: Told = other.tells(other.view.function.model_validate(answer), stored.request["options"])
        return told
    question, asked = permalinks.request_of(caller.questions, stored)
    return Told() if question.tells is None else question.tells(question.view.model_validate(answer), asked)


async def with_story(caller: Caller, stored: Result, view: PermalinkView) -> PermalinkView:
    """For a page: the caption, and beside it what the answer itself has none of."""
    told = view.told
    if view.verdict != "cached" and not told.strip and (run := _run_of(caller, stored)) is not None:
        question, asked = run
        with suppress(NullscopeError):  # the rest of the story stands without it
            told = beside(told, await answered(caller, question, stored.model, asked))
    names = [str(row[0]) for row in told.rows if re.fullmatch(NEURON_PATTERN, str(row[0]))]
    marks = await marks_of(caller, stored.model, names, patience=PAGE_PATIENCE)
    return view.telling(told.model_copy(update={"marks": marks}))


def _run_of(caller: Caller, stored: Result) -> tuple[Question, BaseModel] | None:
    """The plain run of a prompt that something else was asked about."""
    question, run = caller.questions.get(stored.kind), caller.questions[STRIP]
    if question is None or not issubclass(question.request, PromptRequest):
        return None
    held = stored.request["options"].get("ln_scale")
    return run, run.request.model_validate({"token_ids": stored.request["token_ids"], "ln_scale": held})
