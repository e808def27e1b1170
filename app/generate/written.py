"""The text of written tokens."""

from collections.abc import Sequence

from analysis.model import Model

HALF = "\N{REPLACEMENT CHARACTER}"
SEAM = 16  # tokens of the prompt that are decoded with what follows


class Written:
    """What has been written: whole characters, and nothing of a stop text.

    A token may end within a character, and a stop text run over tokens: what may yet become one is held back.
    """

    def __init__(self, model: Model, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._model, self._stops = model, stops
        self._ids = list(prompt[-SEAM:])  # what is written may end a character of the prompt, or begin with a space
        self._begin = len(self._decoded())
        self._told, self._written = 0, ""
        self.whole, self.stopped = "", False

    def add(self, token_id: int) -> str:
        """The characters that this token completes."""
        before = self._written
        self._ids.append(token_id)
        self._written = text = self._decoded()[self._begin :]
        at = [text.index(stop) for stop in self._stops if stop in text]
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
