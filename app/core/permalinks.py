"""What is stored of an answer under its permalink, and which question a stored one answers.

An answer's kind is the name that its canonical request carries; the request that computes it again is the stored
options with the stored token ids.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from analysis.types import NotFoundError
from app.core.canonical import canonical_request, content_hash
from app.core.interventions import requested
from app.core.question import PROMPT_PAGE, Question
from app.core.request import PromptRequest
from app.core.store.results import NewResult
from app.core.store.tables import Result


def of_answer(kind: Question, request: BaseModel, view: Any) -> NewResult:
    """What to store of an answer; its provenance already names the hash."""
    source = view.provenance
    canonical = canonical_request(kind.name, source.model, source.weights_sha256, source.token_ids, request)
    return NewResult(
        hash=content_hash(canonical),
        request=canonical,
        versions=source.versions,
        answer=view.model_dump_json(exclude={"permalink"}),
        preview=_preview(request, source.token_ids),
    )


def _preview(request: BaseModel, token_ids: list[int]) -> str:
    """The beginning of what was asked about: its text, its seed, else its first token ids."""
    if text := getattr(request, "text", None):
        return str(text)
    if turns := getattr(request, "turns", None):
        return " · ".join(f"{turn.role}: {turn.content}" for turn in turns)
    if (seed := getattr(request, "seed", None)) is not None:
        return f"seed {seed}, {getattr(request, 'kind', 'random ids').replace('_', ' ')}"
    return _first_ids(token_ids) if token_ids else "the sample text"


def _first_ids(token_ids: list[int]) -> str:
    return "token ids " + " ".join(map(str, token_ids[:16])) + (" …" if len(token_ids) > 16 else "")


def request_of(questions: Mapping[str, Question], stored: Result) -> tuple[Question, BaseModel]:
    """The question that a stored result answers; NotFoundError when this version does not know its kind,
    InputError when it does not understand what was asked."""
    question = questions.get(stored.kind)
    if question is None or not question.permalink:
        raise NotFoundError(f"This version has no {stored.kind} results.", code="unknown_kind")
    options = dict(stored.request["options"])
    if issubclass(question.request, PromptRequest):
        options["token_ids"] = stored.request["token_ids"]
    return question, requested(question.request, **options)


def whole(questions: Mapping[str, Question], stored: Result) -> Result:
    """A copy, with every option of its question: those that an older version did not store stand at their defaults."""
    copy = Result(**{column.key: getattr(stored, column.key) for column in Result.__table__.columns})
    if (question := questions.get(stored.kind)) is not None:
        fields = question.request.model_fields
        optional = {name for name, field in fields.items() if not field.is_required()}
        unset = question.request.model_construct().model_dump(mode="json", include=optional, warnings=False)
        copy.request = stored.request | {"options": unset | stored.request["options"]}
    return copy


def has_prompt(questions: Mapping[str, Question], stored: Result) -> bool:
    """Whether its token ids are a prompt's, not those of the first row of many."""
    question = questions.get(stored.kind)
    return stored.kind == PROMPT_PAGE or (question is not None and issubclass(question.request, PromptRequest))
