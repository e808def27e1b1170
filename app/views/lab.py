"""The lab page, a note with its history, the login and self-check pages."""

from pydantic import Field

from app.views.check import CheckView
from app.views.core import ErrorBody, View
from app.views.notes import ListView, NoteView, PinRow, RevisionView
from app.views.permalinks import ResultRow


class LabView(View):
    """Results, notes, lists and pins."""

    who: str
    offset: int
    limit: int
    total: int
    rows: list[ResultRow]
    notes: list[NoteView]
    lists: list[ListView]
    pins: list[PinRow]
    person: str
    role: str
    logged_in: bool
    models: list[str]


class NotePageView(View):
    note: NoteView
    rows: list[RevisionView]


class LoginView(View):
    next: str
    problem: ErrorBody | None = None


class ChecksView(View):
    """Self-checks of every loaded model; `problem` where one could not be run."""

    checks: list[CheckView]
    problems: dict[str, str] = Field({})
