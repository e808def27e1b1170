"""The text of written tokens."""

import re
from collections.abc import Sequence

from analysis.model import Model

HALF = "\N{REPLACEMENT CHARACTER}"
LONGEST = 4  # bytes of a character
BYTES = re.compile(r"\\x[0-9a-f]{2}")
"""How a token's text shows what is no whole character (`analysis.vocab`)."""
SEAM = 16  # tokens of the prompt that are decoded with what follows


def pieces(model: Model, ids: Sequence[int]) -> list[str]:
    """The characters that each token of a prompt completes; bytes that never become one as they are written."""
    told, run = list[str](), list[int]()
    for token, text in zip(ids, model.token_texts(ids), strict=True):
        if not run and not BYTES.search(text):
            told.append(text)
            continue
        run.append(token)
        whole: str = model.tokenizer.decode(run, clean_up_tokenization_spaces=False)
        if whole.endswith(HALF) and len(run) < LONGEST:
            told.append("")
            continue
        told.append("".join(model.token_texts(run)) if HALF in whole else whole)
        run = []
    return told


class Written:
    """What has been written: whole characters, and nothing of a stop text.

    A token may end within a character, and a stop text run over tokens: what may yet become one is held back.
    """

    def __init__(self, model: Model, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._model, self._stops = model, stops
        self._ids = list(prompt[-SEAM:])  # what is written may end a character of the prompt, or begin with a space
        self._begin = len(self._decoded())
        self._told, self._written, self._given = 0, "", 0
        self.whole, self.stopped = "", False

    def add(self, token_id: int, *, given: bool = False) -> str:
        """The characters that this token completes. given: it was handed over, so no stop text in it counts."""
        before = self._written
        self._ids.append(token_id)
        self._written = text = self._decoded()[self._begin :]
        self._given = len(text) if given else self._given
        at = [place for stop in self._stops if (place := text.find(stop, max(self._given - len(stop) + 1, 0))) >= 0]
        self.whole, self.stopped = text[: min(at)] if at else text, bool(at)
        return text.removeprefix(before)

    def new(self, *, whole: bool = False) -> str:
        """What is certain of it and has not been told yet; ``whole``: all of it, since nothing follows."""
        end = len(self.whole) if whole else len(self.whole) - self._doubtful()
        text = self.whole[self._told : end]
        self._told = max(end, self._told)
        return text

    def _doubtful(self) -> int:
        """How many of the last characters may be the beginning of a stop text."""
        most = min(max(map(len, self._stops), default=1) - 1, len(self.whole))
        ends = (n for n in range(most, 0, -1) if any(stop.startswith(self.whole[-n:]) for stop in self._stops))
        return next(ends, 0)

    def _decoded(self) -> str:
        text: str = self._model.tokenizer.decode(self._ids, clean_up_tokenization_spaces=False)
        return text.rstrip(HALF)
