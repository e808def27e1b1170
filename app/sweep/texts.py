"""Uploaded texts, whose they are, and how much of them a person may keep.

data_dir/corpora/<id>.jsonl      the text (or .txt, either gzipped), as it was sent
data_dir/corpora/.<id>.json      its note: name, person, size in documents and characters, when it came

The time of the note's file is that of the last use.
"""

import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import corpus
from analysis.corpus import ReadLimits
from analysis.files import write_bytes
from analysis.types import NotFoundError
from app.core.errors import ConflictError, QuotaError
from app.core.jobs import Jobs
from app.core.settings import Settings

SAMPLE = "sample"  # stands for the text that comes with a model
REMEDY = "Delete one on the page Sweeps, or with `nullscope texts delete ID`."


@dataclass(frozen=True, slots=True)
class Text:
    """An uploaded text. person, n_documents, n_characters: None of one that an older version received. created, used:
    seconds since 1970."""

    id: str
    name: str
    person: str | None
    n_bytes: int
    n_documents: int | None
    n_characters: int | None
    created: float
    used: float


def users_of(jobs: Jobs) -> dict[str, list[tuple[str, str]]]:
    """Text id -> (id, state) of each sweep over it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for job in jobs.every("sweep"):
        found.setdefault(job.config.get("corpus", SAMPLE), []).append((job.id, job.state))
    return found


def needed_by(jobs: Jobs) -> set[str]:
    """Ids of texts that a sweep which has not finished may still read."""
    return {text for text, users in users_of(jobs).items() if any(state != "finished" for _, state in users)}


class Texts:
    """The texts of one data folder. Every method reads files: not for the event loop."""

    def __init__(self, folder: Path, *, quota: int | None, limits: ReadLimits) -> None:
        self.folder, self.quota, self.limits = folder, quota, limits
        self._arriving: Counter[str] = Counter()  # bytes on their way, by person
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> "Texts":
        limits = ReadLimits(total=settings.max_corpus_characters)
        return cls(settings.data_dir / "corpora", quota=settings.upload_quota_bytes, limits=limits)

    def receive(self, name: str, content: bytes, person: str) -> Text:
        """Store a text and read it once in full.

        InputError when it is no good, QuotaError when the person has no room for it, DiskFullError when the disk has
        none; then nothing is left behind.
        """
        name = name[:200]
        suffix = next((suffix for suffix in corpus.SUFFIXES if name.lower().endswith(suffix)), Path(name).suffix[:12])
        text_id = uuid.uuid4().hex[:12]
        path = self.folder / f"{text_id}{suffix}"
        with self._room(person, len(content)):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                write_bytes(path, content)
                note = {"name": name, "person": person, "created": time.time(), **self._read(path, name)}
                write_bytes(self._note(text_id), json.dumps(note).encode())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return self.get(text_id)

    @contextmanager
    def _room(self, person: str, n_bytes: int) -> Iterator[None]:
        """Kept free for a text that arrives; texts of one person that arrive together count together."""
        with self._lock:
            taken = sum(text.n_bytes for text in self.every(person)) + self._arriving[person]
            QuotaError.check("uploads", taken, n_bytes, self.quota, REMEDY)
            self._arriving[person] += n_bytes
        try:
            yield
        finally:
            with self._lock:
                self._arriving[person] -= n_bytes
                self._arriving += Counter()  # forgets who has none

    def _read(self, path: Path, name: str) -> dict[str, int]:
        n_documents = n_characters = 0
        for text in corpus.documents(path, limits=self.limits, name=name):
            n_documents, n_characters = n_documents + 1, n_characters + len(text)
        if n_documents == 0:
            raise corpus.empty(name)
        return {"n_documents": n_documents, "n_characters": n_characters}

    def every(self, person: str | None = None) -> list[Text]:
        """The newest first; one person's, or all."""
        files = [file for file in self.folder.glob("*.*") if not file.name.startswith(".")]
        found = [text for file in files if (text := self._known(file)) is not None]
        mine = [text for text in found if person in (None, text.person)]
        return sorted(mine, key=lambda text: (-text.created, text.id))

    def get(self, text_id: str) -> Text:
        """NotFoundError when there is none of that id."""
        text = self._known(self.file(text_id))
        if text is None:
            raise self._missing(text_id)
        return text

    def file(self, text_id: str) -> Path:
        """NotFoundError when there is none of that id."""
        found = [*self.folder.glob(f"{text_id}.*")] if text_id.isalnum() else []
        if not found:
            raise self._missing(text_id)
        return found[0]

    def touch(self, text_id: str) -> None:
        """It is used now."""
        note = self._note(text_id)
        if note.exists():
            os.utime(note)

    def remove(self, text_id: str) -> None:
        """The note last: a text without one is as old as its file, and goes with the old ones."""
        if text_id.isalnum():
            for pattern in (f"{text_id}.*", f".{text_id}.*"):
                for file in self.folder.glob(pattern):
                    file.unlink(missing_ok=True)

    def delete(self, text_id: str, jobs: Jobs) -> None:
        """Remove it on somebody's wish; ConflictError while a sweep that has not finished may still read it."""
        self.file(text_id)
        for sweep_id, state in users_of(jobs).get(text_id, []):
            if state != "finished":
                raise ConflictError(
                    f"The sweep {sweep_id}, which is {state}, still needs this text.",
                    code="text_in_use",
                    hint="Delete the sweep first; the text goes with it.",
                )
        self.remove(text_id)

    def expire(self, before: float, needed: Collection[str]) -> list[str]:
        """Remove what was last used before that time, but for what is needed; the ids."""
        old = [text.id for text in self.every() if text.used < before and text.id not in needed]
        for text_id in old:
            self.remove(text_id)
        return old

    def _note(self, text_id: str) -> Path:
        return self.folder / f".{text_id}.json"

    def _known(self, file: Path) -> Text | None:
        """None when it is removed while it is looked at."""
        text_id = file.name.split(".")[0]
        note, older = self._note(text_id), self.folder / f".{text_id}.name"
        try:
            state = file.stat()
            if not note.exists():
                name = older.read_text(encoding="utf-8") if older.exists() else file.name
                return Text(text_id, name, None, state.st_size, None, None, state.st_mtime, state.st_mtime)
            told: dict[str, Any] = json.loads(note.read_bytes())
            return Text(id=text_id, n_bytes=state.st_size, used=note.stat().st_mtime, **told)
        except FileNotFoundError:
            return None

    def _missing(self, text_id: str) -> NotFoundError:
        return NotFoundError(f"There is no text {text_id[:40]!r} here.", code="no_such_corpus", hint="Upload it again.")
