"""The lab page, a note with its history."""

from app.core.notes_view import NoteView
from app.core.permalink_view import ResultRow
from app.core.view import View
from app.lab.view import ListView, PinRow, RevisionView


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
