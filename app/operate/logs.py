"""The log of a running server, on standard error: as text, or one JSON object a line. Neither ever holds a prompt."""

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

EVERY = 60.0  # seconds in which what repeats is written once
ALIKE = 10  # lines of one kind that differ in their details, in this time
KINDS = 1000  # remembered at once


class JsonLines(logging.Formatter):
    """{"time", "level", "logger", "message"} and, where there is one, "error"."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


@dataclass
class _Kind:
    """Lines that stand at one place of the program. texts: those written since `began`; left_out: how many were not."""

    began: float
    texts: set[str]
    left_out: int = 0


class Sparing(logging.StreamHandler[TextIO]):
    """Writes a line once a minute, however often it comes, and says then how many like it there were.

    A fault that repeats with every connection would fill a disk with its tracebacks in minutes.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock."""
        now = self._clock()
        for key in [key for key, kind in self._kinds.items() if now - kind.began >= EVERY]:
            self._report(key, self._kinds.pop(key))
        kind = self._kinds.setdefault(self._key(record), _Kind(now, set()))
        text = record.getMessage() + (repr(record.exc_info[1]) if record.exc_info else "")
        if text in kind.texts or len(kind.texts) >= ALIKE:
            kind.left_out += 1
            return
        kind.texts.add(text)
        super().emit(record)

    def _key(self, record: logging.LogRecord) -> tuple[str, str]:
        """(logger, what it says without the details), a bounded number of them."""
        # A library that logs without arguments has its details in the lines after the first.
        key = (record.name, str(record.msg).partition("\n")[0])
        return key if key in self._kinds or len(self._kinds) < KINDS else ("", "lines of many kinds")

    def _report(self, key: tuple[str, str], kind: _Kind) -> None:
        if kind.left_out:
            name, text = key
            message = f"{kind.left_out} more lines like this one were left out: {text}"
            super().emit(logging.LogRecord(name, logging.WARNING, "", 0, message, None, None))


def configure_logging(form: str) -> None:
    """Our own lines from `info` up, other libraries' from `warning` up."""
    handler = Sparing(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("app").setLevel(logging.INFO)
