"""Notes with their links, lists, pins, and histories as views."""

import re
from collections.abc import Iterator
from urllib.parse import quote

from app.access.gate import Identity
from app.db.tables import NeuronList, Note, Pin, Revision
from app.present.permalinks import when
from app.views.notes import ListView, NoteView, Piece, PinRow, RevisionView

# A neuron (with or without its model), a permalink by path or by whole address. What has a sign, a unit or a zero too
# many is a number.
LINK = re.compile(
    r"(?P<neuron>(?<![\w./+−-])(?:(?P<model>[\w.-]{1,80})/)?"
    r"(?P<id>(?:0|[1-9]\d{0,3})\.(?:0|[1-9]\d{0,6}))(?!\w|\.\w|\s?(?:%|nats?\b)))"
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


def note(found: Note, identity: Identity, root: str) -> NoteView:
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


def neuron_list(found: NeuronList, identity: Identity) -> ListView:
    return ListView(
        id=found.id,
        name=found.name,
        description=found.description,
        model=found.model,
        neurons=found.neurons,
        author=found.author,
        created=when(found.created),
        updated=when(found.updated),
        mine=may_change(found.author, identity),
        ablation=" ".join(f"{neuron}:mean" for neuron in found.neurons),
    )


def revision(found: Revision) -> RevisionView:
    return RevisionView(author=found.author, at=when(found.at), body=found.body)


def pin(found: Pin, root: str) -> PinRow:
    return PinRow(target=found.target, href=target_href(found.target, root), created=when(found.created))
