"""Sessions of browsers: the database keeps a digest of the cookie's secret."""

import hashlib
import secrets
import time

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.core.store.tables import Login


def digest(secret: str) -> str:
    """The secret has 256 random bits, so a fast hash is enough here."""
    return hashlib.sha256(secret.encode()).hexdigest()


def begin(session: Session, person: str, key_id: str, seconds: float) -> str:
    """A new session's secret, always a new one: what a browser brought along before is never taken over."""
    secret = secrets.token_urlsafe(32)
    session.execute(delete(Login).where(Login.expires < time.time()))
    session.add(Login(digest=digest(secret), person=person, key_id=key_id, expires=time.time() + seconds))
    return secret


def find(session: Session, secret: str) -> Login | None:
    """None when there is none, or it has expired."""
    login = session.get(Login, digest(secret))
    return login if login is not None and login.expires > time.time() else None


def end(session: Session, secret: str) -> None:
    session.execute(delete(Login).where(Login.digest == digest(secret)))
