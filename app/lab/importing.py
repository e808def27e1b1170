"""An export read to be taken in: each result checked as the request that it was, its answer as one that can be shown.

    given = read(questions, body, settings, vocabularies)      # not on the event loop: seconds, for a large file

Nothing is believed: an answer is read as the view of its kind and written again, so that what is stored is what this
version would have stored.
"""

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from analysis.sweep import SweepConfig
from analysis.types import InputError, NullscopeError
from app.core import limits as bounds
from app.core.canonical import options_of
from app.core.errors import TooLargeError, validation_message
from app.core.question import SWEEP, Question, Unasked
from app.core.request import PromptRequest
from app.core.settings import Limits
from app.core.wording import named
from app.lab.transfer import CanonicalRequest, ImportRequest, ResultRow

MOST_ROWS = 100_000
MOST_ANSWER = 32_000_000  # bytes of one answer, unpacked
RATIO, FREE = 100, 1_000_000  # an answer unpacks to so many times what it takes, or to so many bytes
LARGEST = 3.5e38  # no number of an answer is larger: float32 ends there
WHOLE = 2**53  # nor an integer: beyond, JSON readers differ


@dataclass(frozen=True)
class Kinds:
    """What there is of results. others: of kinds that no question answers."""

    questions: Mapping[str, Question]
    others: Mapping[str, Unasked]

    @property
    def views(self) -> dict[str, type[BaseModel]]:
        """What a stored answer of each kind is."""
        kept = {name: question.view for name, question in self.questions.items() if question.permalink}
        return {**kept, **{name: other.view.function for name, other in self.others.items()}}


def read(kinds: Kinds, body: bytes, limits: Limits, vocabularies: Mapping[str, int]) -> ImportRequest:
    """The rows of an export, fit to be stored.

    vocabularies: size of the vocabulary by hash of weights, of the models that are here. InputError or ValidationError
    for a row that does not hold, TooLargeError where the file has too many rows, or unpacks to too much.
    """
    given = ImportRequest.model_validate_json(body)
    if given.n_rows > MOST_ROWS:
        raise _too_large(f"The export has {given.n_rows} rows; at most {MOST_ROWS} are taken in at once.")
    reader = _Reader(kinds, limits, vocabularies, limits.max_import_bytes)
    results = []
    for index, row in enumerate(given.results):
        try:
            results.append(reader.result(row))
        except TooLargeError:
            raise
        except ValidationError as error:
            raise _refused(index, validation_message(error.errors())) from None
        except NullscopeError as error:
            raise _refused(index, error.message) from None
    return given.model_copy(update={"results": results})


def _refused(index: int, reason: str) -> InputError:
    return InputError(f"{named(('results', index))}: {reason}", code="invalid_request", hint="Nothing was taken in.")


def _too_large(message: str) -> TooLargeError:
    hint = "Nothing was taken in. Export less, or have the operator raise NULLSCOPE_MAX_IMPORT_BYTES."
    return TooLargeError(message, code="import_too_large", hint=hint)


@dataclass
class _Reader:
    """The results of one import. left: bytes that may still be unpacked."""

    kinds: Kinds
    limits: Limits
    vocabularies: Mapping[str, int]
    left: int

    def result(self, row: ResultRow) -> ResultRow:
        """The row as this version would have stored it."""
        self.check_request(row.request)
        answer = self.answer(self.unpacked(row.answer), row.request)
        return row.model_copy(update={"answer": base64.b64encode(zlib.compress(answer.encode(), 6)).decode()})

    def check_request(self, request: CanonicalRequest) -> None:
        """The question as if somebody asked it now, its options as they are spelled out.

        An option that an older version did not have may be missing.
        """
        spelled = self.spelled(request)
        for name, value in request.options.items():
            if name not in spelled or _text(spelled[name]) != _text(value):
                raise InputError(f"The option {name[:40]!r} is not as {request.kind} requests have it.")
        d_vocab = self.vocabularies.get(request.weights_sha256)
        if d_vocab is not None and request.token_ids:
            bounds.check_known(request.token_ids, d_vocab)

    def spelled(self, request: CanonicalRequest) -> Mapping[str, Any]:
        """The options as this version stores them."""
        if request.kind == SWEEP:
            return _sweep_options(request)
        question = self.kinds.questions.get(request.kind)
        if question is None or not question.permalink:
            raise InputError(f"This version has no {request.kind!r} results.")
        if question.spelled is not None:
            options: Mapping[str, Any] = question.spelled(request.model_dump(), self.limits)
            return options
        prompt = {"token_ids": request.token_ids} if issubclass(question.request, PromptRequest) else {}
        asked = question.request.model_validate({**request.options, **prompt})
        bounds.check_request(asked, self.limits)
        return options_of(asked)

    def unpacked(self, text: str) -> bytes:
        """The answer's JSON; no more of it is ever unpacked than is allowed."""
        try:
            packed = base64.b64decode(text, validate=True)
            most = min(MOST_ANSWER, max(FREE, RATIO * len(packed)), self.left)
            stream = zlib.decompressobj()
            found = stream.decompress(packed, most + 1)
        except (binascii.Error, ValueError, zlib.error):
            raise InputError("answer: is not as it was exported.") from None
        if len(found) > most:
            raise _too_large(f"An answer of {len(packed)} bytes unpacks to more than {most}.")
        if not stream.eof or stream.unused_data:
            raise InputError("answer: is not a whole answer.")
        self.left -= len(found)
        return found

    def answer(self, text: bytes, request: CanonicalRequest) -> str:
        """The answer's JSON as this version writes it."""
        try:
            given = from_json(text, allow_inf_nan=False)
        except ValueError:
            raise InputError("answer: is no JSON.") from None
        _check_plain(given)
        view = self.kinds.views[request.kind].model_validate(given)
        _check_origin(view, request)
        return view.model_dump_json(exclude={"permalink"})


def _sweep_options(request: CanonicalRequest) -> Mapping[str, Any]:
    if request.token_ids:
        raise InputError("A sweep has no token ids.")
    corpus = request.options.get("corpus")
    if not isinstance(corpus, str) or len(corpus) > 100:
        raise InputError("A sweep names its text.")
    config = {name: value for name, value in request.options.items() if name != "corpus"}
    return {**json.loads(json.dumps(SweepConfig.from_json(config).as_json())), "corpus": corpus}


def _text(value: Any) -> str:
    """As the hash reads it: 1, 1.0 and true are three things."""
    return json.dumps(value, sort_keys=True)


def _check_plain(value: Any) -> None:
    """InputError for a number that no answer has."""
    rest = [value]
    while rest:
        match rest.pop():
            case dict() as found:
                rest.extend(found.values())
            case list() as found:
                rest.extend(found)
            case bool() | str() | None:
                pass
            case int() as found if abs(found) <= WHOLE:
                pass
            case float() as found if math.isfinite(found) and abs(found) <= LARGEST:
                pass
            case _:
                raise InputError("answer: holds a number that cannot be one of its own.")


def _check_origin(view: BaseModel, request: CanonicalRequest) -> None:
    """An answer says which model and tokens it is of; it must be the request's."""
    trace = getattr(view, "trace", None)
    source = getattr(view, "provenance", None) or getattr(trace, "provenance", None)
    if request.kind == SWEEP:
        return
    if source is None:
        raise InputError("answer: does not say where it comes from.")
    told = (source.model, source.weights_sha256, source.token_ids)
    if told != (request.model, request.weights_sha256, request.token_ids):
        raise InputError("answer: is of another model or other tokens than the request.")
