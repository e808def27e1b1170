"""Notes as the pages show them, with what they name as links."""

import re
from collections.abc import Iterator
from urllib.parse import quote

from app.core.access.gate import Identity
from app.core.caller import Caller
from app.core.notes_view import NotesView, NoteView, Piece
from app.core.plain import when
from app.core.store import notes as stored
from app.core.store.tables import Note

# A neuron (with or without its model), a permalink by path or by whole address. What has a sign, a unit or a zero too
# many is a number.
LINK = re.compile(
    r"(?P<neuron>(?<![\w./+−-])(?:(?P<model>[\w.-]{1,80})/)?"
    r"(?P<id>(?:0|[1-9][0-9]{0,3})\.(?:0|[1-9][0-9]{0,6}))(?!\w|\.\w|\s?(?:%|nats?\b)))"
    r"|(?P<result>(?:https?://[^\s<>\"]{1,200})?/r/(?P<hash>[0-9a-f]{8,64})\b)"
)


def target_model(target: str) -> str | None:
    """The model of a note on a neuron."""
    kind, _, name = target.partition(":")
    return name.rpartition("/")[0] if kind == "neuron" else None


def target_href(target: str, root: str) -> str | None:
    kind, _, name = target.partition(":")
    if kind == "neuron":
        model, _, neuron = name.rpartition("/")
        return f"{root}/atlas/{quote(neuron)}?model={quote(model, safe='')}"
    return f"{root}/r/{quote(name)}" if kind == "result" else None


def pieces(text: str, model: str | None, root: str) -> Iterator[Piece]:
    """The text cut at what names a neuron or a permalink. Only our own paths become links, never an outside address."""
    end = 0
    for match in LINK.finditer(text):
        if match["result"]:
            href = f"{root}/r/{match['hash']}"
        else:
            of = match["model"] or model
            href = f"{root}/atlas/{match['id']}" + (f"?model={quote(of, safe='')}" if of else "")
        if match.start() > end:
            yield Piece(text=text[end : match.start()])
        yield Piece(text=match[0], href=href)
        end = match.end()
    if end < len(text):
        yield Piece(text=text[end:])


def may_change(author: str, identity: Identity) -> bool:
    return identity.is_admin or author == identity.name


def note_view(found: Note, identity: Identity, root: str) -> NoteView:
    return NoteView(
        id=found.id,
        target=found.target,
        text=found.text,
        pieces=list(pieces(found.text, target_model(found.target), root)),
        author=found.author,
        created=when(found.created),
        updated=when(found.updated),
        mine=may_change(found.author, identity),
    )


async def listed(caller: Caller, target: str | None, *, offset: int = 0, limit: int = 50) -> NotesView:
    """What people wrote about a target, or all of it (None), newest first."""
    total, rows = await caller.read(stored.notes, target=target, offset=offset, limit=limit)
    return NotesView(total=total, rows=[note_view(row, caller.identity, caller.root) for row in rows])
