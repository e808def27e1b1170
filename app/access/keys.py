"""Per-person keys, in one JSON file as slow hashes (scrypt, RFC 7914); a key itself is shown once, when it is made.

A key is `ns_<id>_<secret>`: the id finds the line, so a check costs one hash however many people there are.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from analysis.types import InputError

Role = Literal["view", "run", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")
# What the program calls those who have no name of their own, and its own work.
RESERVED = frozenset({"local", "shared", "nobody", "anyone", "nullscope", "sweeps"})
COST = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 40 ms a guess


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


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


class KeyFile:
    """The file, read again whenever it has changed: a key that was revoked ends at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._people: dict[str, Person] = {}
        self._known: dict[str, str] = {}  # digest of a key that was right -> its id

    def people(self) -> list[Person]:
        self._read()
        return sorted(self._people.values(), key=lambda person: (person.name, person.created))

    def by_id(self, identifier: str) -> Person | None:
        self._read()
        return self._people.get(identifier)

    def by_name(self, name: str) -> Person | None:
        return next((person for person in self.people() if person.name == name), None)

    def known(self, key: str) -> Person | None:
        """Whose key it is, if `check` has found it right before and it is still valid. Fast."""
        self._read()
        return self._people.get(self._known.get(_digest(key), ""))

    def check(self, key: str) -> Person | None:
        """Whose key it is. Slow for a key that is seen for the first time: not on the event loop."""
        if (known := self.known(key)) is not None:
            return known
        identifier, secret = split(key)
        person = self._people.get(identifier)
        # An unknown id takes as long as a wrong secret.
        given = slow_hash(secret or "-", person.salt if person else "00" * 16)
        if person is None or not hmac.compare_digest(given, person.hash):
            return None
        self._known[_digest(key)] = identifier
        return person

    def add(self, name: str, role: Role) -> str:
        """A new key for a new person; InputError when the name is taken or cannot be one."""
        if not NAME.fullmatch(name) or name in RESERVED:
            hint = "Letters, digits, . _ @ - between them; not " + ", ".join(sorted(RESERVED)) + "."
            raise InputError(f"{name[:40]!r} cannot be a name.", code="invalid_name", hint=hint)
        if self.by_name(name) is not None:
            raise InputError(
                f"{name} has a key already.", code="name_taken", hint=f"First: nullscope users revoke {name}"
            )
        person, key = new_key(name, role)
        self._write([*self.people(), person])
        return key

    def revoke(self, name: str) -> Person:
        person = self.by_name(name)
        if person is None:
            hint = "See: nullscope users list"
            raise InputError(f"There is no key of {name[:40]!r}.", code="unknown_person", hint=hint)
        self._write([other for other in self.people() if other.id != person.id])
        return person

    def _read(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._people, self._stamp = {}, None
            self._known.clear()
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            lines = json.loads(self.path.read_text("utf-8"))["people"]
            people = [Person(**line) for line in lines]
            if any(person.role not in ROLES for person in people):
                raise ValueError("role")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The auth file {self.path} cannot be read ({type(error).__name__}).",
                code="auth_file",
                hint="Make a new one: nullscope users add NAME --auth-file FILE",
            ) from None
        self._people = {person.id: person for person in people}
        self._known.clear()
        self._stamp = stamp

    def _write(self, people: list[Person]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".tmp")
        text = json.dumps({"people": [asdict(person) for person in people]}, indent=1)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._stamp = None
