"""Who sends this request, and whether they may: called by the guard in front of every request.

Ways in, first match: a trusted reverse proxy's header, a bearer key, a browser's login cookie; without any of these
loopback is the operator themself, and other addresses are let in only by `insecure_open`.
"""

import hmac
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from analysis.types import InputError
from app.core import offloop
from app.core.access.attempts import Attempts
from app.core.access.charges import Charge, Paid
from app.core.access.keys import RESERVED, KeyFile, KeyFileError
from app.core.access.rates import Buckets
from app.core.access.roles import REFUSED, Doors, allows
from app.core.errors import ForbiddenError, RoleError, UnauthorizedError, UnavailableError
from app.core.role import Role
from app.core.settings import Settings
from app.core.store import Database, logins

log = logging.getLogger(__name__)
T = TypeVar("T")
COOKIE = "nullscope_session"
LOCAL = "local"
# What a proxy sends along; a request without any of these comes from this machine's own user.
FORWARDED = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")


@dataclass(frozen=True)
class Identity:
    """Who a request is from. name: also the author of what they write and whose turn they take in the queue."""

    name: str
    role: Role
    key_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


class Gate:
    """The access rules of one process, in front of `doors`."""

    def __init__(
        self, settings: Settings, database: Database, doors: Doors, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.database = database
        self.doors = doors
        self.keys = KeyFile(auth_path(settings))
        _ = self.keys.asks  # a file that is there now asks for good, whatever becomes of it before the first request
        self.token = settings.token.get_secret_value() if settings.token else None
        # Stands for the shared token where a session names the key it came from; another token, another id.
        self.token_id = f"token-{sha256(self.token.encode()).hexdigest()[:16]}" if self.token else None
        self.trusted = tuple(_network(text) for text in settings.trusted_proxies)
        self.rates = Buckets(settings.rate_per_minute, clock)
        self.attempts = Attempts(settings.login_failures, clock)
        self.answers: Counter[tuple[str, int]] = Counter()  # (role, status), for /metrics
        self._clock = clock
        self._complained = -math.inf  # when the log last had a line about a broken file of keys
        self.keyed = self.closed  # as last looked up; pages say so beside their Python
        self.inside = False  # a command that asks the app in its own process: the operator, whatever the address

    @property
    def closed(self) -> bool:
        """Whether one must say who one is. Once it is so it stays so, whatever becomes of the file of keys.

        Looks for the file: not on the event loop.
        """
        return self.token is not None or self.settings.auth_file is not None or self.keys.asks

    async def admit(self, scope: Scope) -> Identity:
        """The sender of this request; UnauthorizedError, ForbiddenError or BusyError when it may not go on."""
        headers = Headers(scope=scope)
        self.unwrap_proxy(scope, headers)
        door = self.doors.at(scope)
        if door.role == "public":
            return Identity("nobody", "view")
        identity = await self.identify(scope, headers)
        self.keyed = self.keyed or (identity is not None and identity.key_id is not None)
        if identity is None:
            raise UnauthorizedError(
                "Nobody is logged in.", code="login_needed", hint="Log in at /login, or send Authorization: Bearer KEY."
            )
        # The page that stands in for a refused form belongs to the request that was paid for; what it computes is not.
        self.admit_to(identity, door.role, 0 if REFUSED in scope else door.price)
        return identity

    def charge(self, identity: Identity, role: Role, cost: float, paid: Paid, *, what: str = "This") -> Charge:
        """`admit_to` for something that may yet be refused. paid: what the same request has paid for already."""
        used = min(cost, paid.for_refused)
        self.admit_to(identity, role, cost - used, what=what)
        paid.for_refused -= used
        return Charge(self.rates, identity.name, cost, cost - used, paid)

    def admit_to(self, identity: Identity, role: Role, cost: float, *, what: str = "This") -> None:
        """Take `cost` from a person's bucket for something that the role may do.

        RoleError, and nothing is taken, for a lesser role; BusyError when there is not enough left.
        """
        if not allows(identity.role, role):
            raise RoleError(
                f"{what} needs the role {role}; {identity.name} has {identity.role}.",
                hint=f"Ask the operator: nullscope users add NAME --role {role}",
            )
        if cost and identity.name != LOCAL:
            self.rates.take(identity.name, cost)

    async def identify(self, scope: Scope, headers: Headers) -> Identity | None:
        peer = client_of(scope)
        if (named := scope.get("nullscope.proxied_user")) is not None:
            if named in RESERVED:
                raise ForbiddenError(f"{named} is no person's name here.", code="reserved_name")
            person = await offloop.admit(self._asked, self.keys.by_name, named)
            return Identity(named[:100], person.role if person else self.settings.proxy_role)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self.by_key(key.strip(), peer)
        secret = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if secret and (identity := await offloop.read(self._by_cookie, secret)) is not None:
            return identity
        if self.inside:
            return Identity(LOCAL, "admin")
        self.keyed = await offloop.admit(lambda: self.closed)
        if self.keyed:
            return None
        if is_loopback(peer) and not scope.get("nullscope.proxied"):
            # Forwarded by a proxy that nobody has told us about: let in, but not as the operator.
            return Identity(LOCAL, "run" if any(name in headers for name in FORWARDED) else "admin")
        return Identity(peer, "run") if self.settings.insecure_open else None

    async def by_key(self, key: str, peer: str) -> Identity:
        """Whose key it is; UnauthorizedError for a wrong one, BusyError after too many wrong ones from one address.

        A key that has been right here before is not held up by what others try from the same address.
        """
        if (known := await offloop.admit(self._asked, self.keys.known, key)) is not None:
            return Identity(known.name, known.role, known.id)
        if self.token is not None:
            self.attempts.look(peer)
            if hmac.compare_digest(key.encode("utf-8", "replace"), self.token.encode()):
                return Identity("shared", "run", self.token_id)
        person = await self.attempts.one(key, peer, lambda key: self._asked(self.keys.check, key))
        if person is None:
            raise UnauthorizedError("This key is not valid.", code="invalid_key", hint="Ask the operator.")
        return Identity(person.name, person.role, person.id)

    def _by_cookie(self, secret: str) -> Identity | None:
        """A session lives no longer than the key it was opened with."""
        with self.database.reading() as session:
            login = logins.find(session, secret)
        if login is None:
            return None
        if self.token_id is not None and login.key_id == self.token_id:
            return Identity("shared", "run", self.token_id)
        person = self._asked(self.keys.by_id, login.key_id)
        return None if person is None else Identity(person.name, person.role, person.id)

    def _asked(self, question: Callable[[str], T], what: str) -> T:
        """What the file of keys answers; 503 while it is broken, which is the operator's affair: the log has more."""
        try:
            return question(what)
        except KeyFileError as error:
            if (now := self._clock()) - self._complained > 60:
                self._complained = now
                log.error("nobody can be let in: %s %s", error.message, error.hint)
            raise UnavailableError(
                "The list of those who may come in cannot be read now.",
                code="auth_file",
                retry_after=30,
                hint="The operator finds the cause in the server's log.",
            ) from None

    def unwrap_proxy(self, scope: Scope, headers: Headers) -> None:
        """Believe a proxy's words about client, scheme and user only where its own address is configured."""
        peer = client_of(scope)
        if not self.trusted or not self._is_trusted(peer):
            return
        scope["nullscope.proxied"] = True
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",") if hop.strip()]
        client = next((hop for hop in reversed(hops) if not self._is_trusted(hop)), None)
        if client is not None and _is_address(client):
            scope["client"] = (client, 0)
        if headers.get("x-forwarded-proto") == "https":
            scope["scheme"] = "https"
        user = headers.get(self.settings.proxy_user_header, "").strip()
        if user:
            scope["nullscope.proxied_user"] = user[:100]

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self.trusted)


def auth_path(settings: Settings) -> Path:
    """Where the keys are: the named file, or `users.json` in the data folder."""
    return settings.auth_file or settings.data_dir / "users.json"


def check_address(settings: Settings, address: str) -> None:
    """InputError when this server would be open to other machines without anybody having said so."""
    closed = settings.token is not None or bool(KeyFile(auth_path(settings)).people())
    if is_loopback(address) or closed or settings.insecure_open:
        return
    if settings.auth_file is not None:
        raise InputError(
            f"The auth file {settings.auth_file} names nobody.",
            code="auth_file",
            hint=f"nullscope users add NAME --auth-file {settings.auth_file}",
        )
    raise InputError(
        f"On {address} everybody who reaches this machine could use it.",
        code="open_address",
        hint="First: nullscope users add NAME; or set NULLSCOPE_TOKEN; or, where the network itself is closed, "
        "--insecure-open.",
    )


def local_path(scope: Scope) -> str:
    """The path without the proxy's prefix."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    return (path.removeprefix(root) if path == root or path.startswith(root + "/") else path) or "/"


def client_of(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else ""


def is_loopback(address: str) -> bool:
    """Also the name that Starlette's test client gives itself, and a socket without an address."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address in ("localhost", "testclient", "")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _network(text: str) -> Any:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise InputError(
            f"{text[:60]!r} is not an address or network.", code="trusted_proxies", hint="For example 10.0.0.0/8."
        ) from None
