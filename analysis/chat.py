"""A tokenizer's chat template: turns as the text that the model was trained to read, and back.

The template is the model folder's; transformers renders it in its sandbox (``apply_chat_template``), and nothing else
here runs it. Turns are data to it, never a part of it.

    rendered   the turns, and where the last is not the assistant's the beginning of its answer; where it is, ended as
               the template ends a turn, or open, to be gone on with
    parts      the turns of a text that the template wrote: what stands between them is learnt by rendering marks in
               their place, and looked for in the text. So an answer is told apart in any text, also one that was
               written on, pinned or stored as token ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal

from analysis.types import InputError, UnsupportedModelError

Role = Literal["system", "user", "assistant"]
End = Role | None

_SHAPES: tuple[tuple[tuple[Role, ...], bool], ...] = (
    (("system", "user", "assistant", "user", "assistant"), False),
    (("user", "assistant", "user", "assistant"), False),
    (("system", "user"), True),
    (("user",), True),
)
"""Conversations whose rendering shows what stands between turns, and whether the assistant is to begin."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Part:
    """A turn in a text: the characters from ``start`` on, before ``stop``."""

    role: Role
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Confidence:
    """Over the tokens of an answer. log_prob: of all of it, nats; perplexity: exp(-log_prob / n); first_choices: share
    that were the most probable; least: number of the token with the smallest probability, counted from 0."""

    n: int
    mean_entropy: float
    log_prob: float
    perplexity: float
    first_choices: float
    least: int
    least_prob: float

    @classmethod
    def of(cls, entropy: Sequence[float], log_prob: Sequence[float], rank: Sequence[int]) -> Confidence | None:
        """From the predictions that its tokens were chosen from; None without tokens."""
        if not (n := len(entropy)):
            return None
        whole, least = math.fsum(log_prob), min(range(n), key=lambda i: log_prob[i])
        with_first = sum(each == 0 for each in rank) / n
        spread = math.exp(min(-whole / n, 700.0))  # exp(710) overflows
        return cls(n, math.fsum(entropy) / n, whole, spread, with_first, least, math.exp(log_prob[least]))


class Chat:
    """The template of a tokenizer. name: the model's, for errors."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name

    @property
    def known(self) -> bool:
        """Whether the tokenizer has a template."""
        return bool(getattr(self._tokenizer, "chat_template", None))

    def rendered(self, turns: Sequence[Turn], *, opened: bool = False) -> str:
        """The text that the model reads. opened: an answer at its end is not ended. InputError without a template,
        where it refuses these turns, or where what is said would be read as one of the tokenizer's own marks."""
        if not self.known:
            raise InputError(
                f"The tokenizer of {self._name} has no chat template.",
                code="no_chat_template",
                hint="Serve a model that was trained on conversations, or give the text as it is.",
            )
        self._require_said(turns)
        try:
            return self._render(turns, begin=turns[-1].role != "assistant", opened=opened)
        except Exception as error:  # whatever a template raises, the sandbox's refusals among it
            refused = _is_refusal(error)
            said = " ".join(str(error).split())[:200]
            raise (UnsupportedModelError if refused else InputError)(
                f"The chat template of {self._name} "
                + (f"does what is not allowed: {said}" if refused else f"cannot write these turns: {said}"),
                code="chat_template",
                hint="Give the text as it is."
                if refused
                else "Some templates know no system turn, and most want user and assistant in turn.",
            ) from error

    def _require_said(self, turns: Sequence[Turn]) -> None:
        """InputError naming a mark, such as the end of a turn, that stands in what is said: the tokenizer would read
        it as the mark, and the turn would end there, or be another's."""
        for turn in turns:
            if (mark := next((mark for mark in self._marks if mark in turn.content), None)) is not None:
                raise InputError(
                    f"The {turn.role}'s turn has {mark}, which the tokenizer of {self._name} reads as one token of its "
                    "own and not as text.",
                    code="mark_in_turn",
                    hint="Take it out, or put a space into it; where the mark is meant, give the whole prompt as text.",
                )

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """The tokens that stand for no text, longest first."""
        added = (token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special)
        found = {*self._tokenizer.all_special_tokens, *added}
        return tuple(sorted(filter(None, found), key=lambda mark: (-len(mark), mark)))

    def _render(self, turns: Sequence[Turn], *, begin: bool, opened: bool = False) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=begin, continue_final_message=opened and not begin
        )
        return text

    def parts(self, text: str) -> list[Part]:
        """The turns in a text that the template wrote, in order; none in another text."""
        found, role, at = list[Part](), self._first(text), 0
        if role is None:
            return []
        at = role[1]
        here: End = role[0]
        while here is not None:
            then, start, stop = self._next(text, here, at)
            found.append(Part(here, at, start))
            here, at = then, stop
        return found

    def turns(self, text: str) -> list[Turn]:
        """What was said in it; an answer that has not begun is none."""
        every = (Turn(part.role, text[part.start : part.stop]) for part in self.parts(text))
        return [turn for turn in every if turn.content]

    def roles(self, texts: Sequence[str]) -> list[Role | None]:
        """Of every token of a text whose side it is; None for what the template put in."""
        ends = [0, *accumulate(map(len, texts))]
        roles: list[Role | None] = [None] * len(texts)
        for part in self.parts("".join(texts)):
            for i, (start, stop) in enumerate(pairwise(ends)):
                if start < part.stop and stop > part.start:
                    roles[i] = part.role
        return roles

    def begins(self, text: str) -> bool:
        """Whether a text begins as the template begins."""
        return self._first(text) is not None

    @cached_property
    def _between(self) -> dict[tuple[End, End], tuple[str, ...]]:
        """What stands before, between and behind turns, longest first, by the sides that it stands between."""
        found: dict[tuple[End, End], set[str]] = {}
        for shape, begin in _SHAPES if self.known else ():
            marks = [f"mark{number}of{len(shape)}" for number in range(len(shape))]
            try:
                text = self._render([Turn(*pair) for pair in zip(shape, marks, strict=True)], begin=begin)
            except Exception:  # a conversation that this template does not write
                continue
            pieces = list(_split(text, marks))
            if len(pieces) == len(marks) + 1:
                sides: list[End] = [None, *shape, "assistant" if begin else None]
                for pair, piece in zip(pairwise(sides), pieces, strict=True):
                    found.setdefault(pair, set()).update({piece} if pair[1] else {piece, piece.rstrip()})
        return {pair: tuple(sorted(filter(None, pieces), key=len, reverse=True)) for pair, pieces in found.items()}

    def _first(self, text: str) -> tuple[Role, int] | None:
        """Whose turn is the first, and where it begins; a BOS or a space may stand in front."""
        bos = self._tokenizer.bos_token or ""
        starts = {0, len(text) - len(text.lstrip(" ")), len(bos) if text.startswith(bos) else 0}
        matches = [
            (len(piece), role, start + len(piece))
            for (before, role), pieces in self._between.items()
            for piece in (pieces if before is None else ())
            for start in starts
            if role is not None and text.startswith(piece, start)
        ]
        return max(matches)[1:] if matches else None

    def _next(self, text: str, role: Role, at: int) -> tuple[End, int, int]:
        """Whose turn follows the one of ``role`` that begins ``at``, where that one ends, and where the next begins."""
        best: tuple[End, int, int] = (None, len(text), len(text))
        for (before, after), pieces in self._between.items():
            for piece in pieces if before == role else ():
                # A space that ends a conversation stands within what was said, too.
                start = text.find(piece, at) if piece.strip() else text.find(piece, max(at, len(text) - len(piece)))
                if start >= 0 and (start, -len(piece)) < (best[1], best[1] - best[2]):
                    best = (after, start, start + len(piece))
        return best


def _split(text: str, marks: Iterable[str]) -> Iterator[str]:
    """What stands before, between and behind the marks; less where one of them is not there."""
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return
        yield before
    yield text


def _is_refusal(error: Exception) -> bool:
    from jinja2.exceptions import SecurityError

    return isinstance(error, SecurityError)
