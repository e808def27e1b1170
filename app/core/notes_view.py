"""Notes on a neuron or a stored result: the lab's, and the pages' that show them."""

from datetime import datetime

from pydantic import Field

from app.core.view import View


class Piece(View):
    """A stretch of a note's text; `href` where it names a neuron or a permalink."""

    text: str
    href: str | None = None


class NoteView(View):
    id: str
    target: str = Field(description="neuron:<model>/<layer.index> or result:<hash>")
    text: str
    pieces: list[Piece] = Field(description="The text with its links recognised.")
    author: str
    created: datetime
    updated: datetime
    mine: bool = Field(description="Whether the asker may change it.")


class NotesView(View):
    total: int
    rows: list[NoteView]
