"""Answers are stored beside the requests that wait for them: none is held back for its permalink."""

import asyncio
import logging
from collections.abc import Callable

from app.core import offloop
from app.core.errors import QuotaError, UnavailableError
from app.core.expiry import DAY
from app.core.settings import Settings
from app.core.store import results
from app.core.store.database import Database
from app.core.store.results import NewResult

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that the first answer waits for a database that does not take it; those after it do not wait at all, until
one is stored or the last of them is given up."""


MOST = 64
"""Answers that wait to be stored; beyond it they go without a permalink."""


class Keeper:
    """Of one event loop. Once a person has as many bytes of answers as one may, theirs get no permalink; whoever wants
    one (who shares a page) is told."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings
        self.waiting: set[asyncio.Future[str | None]] = set()
        self._late = False

    async def store(self, make: Callable[[], NewResult], person: str) -> str | None:
        """The hash once the answer is stored, for `person`; None when it is not, or not yet."""
        if len(self.waiting) >= MOST:
            log.warning("%d answers wait to be stored; this one gets no permalink", len(self.waiting))
            return None
        storing = asyncio.ensure_future(offloop.keep(self._store, make, person))
        self.waiting.add(storing)
        storing.add_done_callback(self._settled)
        done, _ = await asyncio.wait({storing}, timeout=0 if self._late else PATIENCE)
        self._late = not done
        return storing.result() if done else None

    async def has(self, name: str) -> bool:
        """Whether an answer is stored under this hash, as far as the database can say now. Nothing is written."""
        return await offloop.read(self._has, name)

    def expire(self, now: float) -> None:
        """Remove answers that nobody has asked for in too many days. now: seconds since 1970."""
        if (days := self.settings.result_days) is not None:
            with self.database.session() as session:
                results.expire(session, now - days * DAY)

    def _has(self, name: str) -> bool:
        try:
            with self.database.reading() as session:
                return results.is_kept(session, name)
        except UnavailableError:
            return False  # the log says why

    def _store(self, make: Callable[[], NewResult], person: str) -> str | None:
        new = make()
        try:
            with self.database.session() as session:
                results.keep(session, new, person, self.settings.result_quota_bytes)
        except UnavailableError:
            return None  # the log says why
        except QuotaError as error:
            log.warning("an answer gets no permalink: %s", error.message)
            return None
        return new.hash

    def _settled(self, storing: "asyncio.Future[str | None]") -> None:
        self.waiting.discard(storing)
        stored = not storing.cancelled() and storing.exception() is None and storing.result() is not None
        if stored or not self.waiting:  # whatever was in the way may be gone when the next one comes
            self._late = False
