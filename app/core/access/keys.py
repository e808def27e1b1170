"""Per-person keys, in one JSON file as slow hashes (scrypt, RFC 7914); a key itself is shown once, when it is made.

A key is `ns_<id>_<secret>`: the id finds the line, so a check costs one hash however many people there are.
"""

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.types import InputError
from app.core import locks
from app.core.role import ROLES, Role

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")
# What the program calls those who have no name of their own, and its own work.
RESERVED = frozenset({"local", "shared", "nobody", "anyone", "nullscope", "sweeps"})
COST = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 40 ms a guess


class KeyFileError(InputError):
    """The file is not what this program writes, or is gone. For the operator: the message names the path."""


@dataclass(frozen=True)
class Person:
    """One line of the file."""

    name: str
    role: Role
    id: str
    salt: str
    hash: str
    created: float


def slow_hash(secret: str, salt: str) -> str:
    return hashlib.scrypt(secret.encode(), salt=bytes.fromhex(salt), **COST, dklen=32).hex()


def new_key(name: str, role: Role) -> tuple[Person, str]:
    """(the line, the key). The key cannot be had back from the line."""
    identifier, secret, salt = secrets.token_hex(4), secrets.token_urlsafe(32), secrets.token_hex(16)
    person = Person(name, role, identifier, salt, slow_hash(secret, salt), time.time())
    return person, f"ns_{identifier}_{secret}"


def split(key: str) -> tuple[str, str]:
    """(id, secret); two empty strings for what is no key."""
    prefix, _, rest = key.partition("_")
    identifier, _, secret = rest.partition("_")
    return (identifier, secret) if prefix == "ns" and identifier and secret else ("", "")


def digest(key: str) -> str:
    """What a key is remembered by."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


class KeyFile:
    """The file, read at every question: a key that was revoked ends at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._was_there = False
        self._read_as: tuple[bytes, dict[str, Person]] = (b"", {})  # what stands in the file, and what it says
        self._known: dict[str, Person] = {}  # digest of a key that was right -> whose it was

    @property
    def asks(self) -> bool:
        """Whether a server must ask who one is: the file is there, in whatever state, or was there before."""
        self._was_there = self._was_there or _is_there(self.path)
        return self._was_there

    def people(self) -> list[Person]:
        """By name; KeyFileError when the file cannot be read, or was there and is gone."""
        return sorted(self._read().values(), key=lambda person: (person.name, person.created))

    def by_id(self, identifier: str) -> Person | None:
        return self._read().get(identifier)

    def by_name(self, name: str) -> Person | None:
        return next((person for person in self.people() if person.name == name), None)

    def known(self, key: str) -> Person | None:
        """Whose key it is, if `check` has found it right before and it is still valid. Fast."""
        person = self._known.get(digest(key))
        return person if person is not None and self._read().get(person.id) == person else None

    def check(self, key: str) -> Person | None:
        """Whose key it is. Slow for a key that is seen for the first time: not on the event loop."""
        if (known := self.known(key)) is not None:
            return known
        identifier, secret = split(key)
        person = self._read().get(identifier)
        # An unknown id takes as long as a wrong secret.
        given = slow_hash(secret or "-", person.salt if person else "00" * 16)
        if person is None or not hmac.compare_digest(given, person.hash):
            return None
        self._known[digest(key)] = person
        return person

    def add(self, name: str, role: Role) -> str:
        """A new key for a new person; InputError when the name is taken or cannot be one."""
        if not NAME.fullmatch(name) or name in RESERVED:
            hint = "Letters, digits, . _ @ - between them; not " + ", ".join(sorted(RESERVED)) + "."
            raise InputError(f"{name[:40]!r} cannot be a name.", code="invalid_name", hint=hint)
        person, key = new_key(name, role)
        with self._changing():
            if self.by_name(name) is not None:
                raise InputError(
                    f"{name} has a key already.", code="name_taken", hint=f"First: nullscope users revoke {name}"
                )
            self._write([*self.people(), person])
        return key

    def revoke(self, name: str) -> Person:
        with self._changing():
            person = self.by_name(name)
            if person is None:
                hint = "See: nullscope users list"
                raise InputError(f"There is no key of {name[:40]!r}.", code="unknown_person", hint=hint)
            self._write([other for other in self.people() if other.id != person.id])
        return person

    def _read(self) -> dict[str, Person]:
        """The people by id. Read whole each time: neither a time nor an inode number tells two states apart."""
        if not self.asks:
            return {}
        try:
            text = self.path.read_bytes()
            if text != self._read_as[0] or not text:
                self._read_as = text, _parsed(text)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise KeyFileError(
                f"The auth file {self.path} cannot be read ({reason or type(error).__name__}).",
                code="auth_file",
                hint="Mend it or put a copy back; or move it away and make new keys: nullscope users add NAME.",
            ) from None
        return self._read_as[1]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One writer at a time, in whatever process: what it reads is what it changes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locks.alone(self.path.with_name(self.path.name + ".lock")):
                yield
        except OSError as error:
            raise InputError(
                f"{error.filename or self.path} cannot be written: {error.strerror or error}.", code="auth_file"
            ) from None

    def _write(self, people: list[Person]) -> None:
        """Written beside it and renamed, so that a reader finds the old file or the new one."""
        text = json.dumps({"people": [asdict(person) for person in people]}, indent=1)
        target = Path(os.path.realpath(self.path))
        # Made with the rights rw------- and a name of its own.
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name + ".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                _as_before(descriptor, target)
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise


def _is_there(path: Path) -> bool:
    """Whether anything has this name; what cannot be looked at counts as there."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _as_before(descriptor: int, target: Path) -> None:
    """The new file is whose the old one was, with its rights: root may add people to a server that runs as another."""
    with contextlib.suppress(OSError):
        before = target.stat()
        os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def _parsed(text: bytes) -> dict[str, Person]:
    """The people by id; ValueError, KeyError or TypeError where a line is not as `add` writes it."""
    people = [_person(line) for line in json.loads(text.decode("utf-8"))["people"]]
    return {person.id: person for person in people}


def _person(line: Any) -> Person:
    person = Person(**line)
    words = (person.name, person.role, person.id, person.salt, person.hash)
    if not all(isinstance(word, str) and word for word in words) or not isinstance(person.created, int | float):
        raise TypeError("a line of people")
    if person.role not in ROLES or person.name in RESERVED or not bytes.fromhex(person.salt):
        raise ValueError("a line of people")
    return person
